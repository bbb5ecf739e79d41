"""The losses against oracles, and the gathered batch against a single rank."""

import math

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from reasonembed.redapter.batch_plan import shares
from reasonembed.redapter.gather import gather, total
from reasonembed.redapter.losses import (
    infonce,
    matryoshka,
    multi_positive,
    reasoning_intensity,
    rewrite_divergence,
    soft_target_divergence,
)


def unit(*shape, seed=0, dtype=torch.float64):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype), dim=-1)


def test_infonce_equals_sentence_transformers():
    q, p = unit(4, 8), unit(4, 8, seed=1)
    theirs = MultipleNegativesRankingLoss(model=torch.nn.Identity(), scale=20).compute_loss_from_embeddings(
        [q, p], None
    )
    assert infonce(q, p, torch.arange(4), 1 / 20).mean().item() == pytest.approx(theirs.item(), abs=1e-6)


def test_masked_passages_are_no_negatives():
    q, p = unit(1, 8), unit(3, 8, seed=1)
    mask = torch.tensor([[False, True, False]])
    masked = infonce(q, p, torch.tensor([0]), 0.05, mask)
    assert masked.item() == pytest.approx(infonce(q, p[[0, 2]], torch.tensor([0]), 0.05).item())


def test_weighted_loss_equals_a_plain_float64_reference():
    q, r, p = unit(3, 8), unit(3, 8, seed=1), unit(6, 8, seed=2)
    positives, tau, kappa = torch.tensor([0, 2, 4]), 0.02, 5.0
    losses = [
        [-math.log(math.exp((x[i] @ p[2 * i]) / tau) / sum(math.exp((x[i] @ d) / tau) for d in p)) for i in range(3)]
        for x in (q, r)
    ]
    ri = [min(max(a / (b + 1e-6), 0), kappa) for a, b in zip(*losses, strict=True)]
    reference = sum(w / sum(ri) * loss for w, loss in zip(ri, losses[0], strict=True))
    ours = infonce(q, p, positives, tau)
    weights = reasoning_intensity(ours, infonce(r, p, positives, tau), kappa)
    assert (weights / weights.sum() * ours).sum().item() == pytest.approx(reference, abs=1e-9)
    assert weights.tolist() == pytest.approx(ri)


def test_intensity_has_no_gradient_and_is_clamped():
    loss = torch.tensor([1.0, 100.0], requires_grad=True)
    ri = reasoning_intensity(loss, torch.tensor([0.5, 0.1]), 5.0)
    assert not ri.requires_grad
    assert ri.tolist() == pytest.approx([2.0, 5.0], abs=1e-4)


def test_soft_targets():
    q, own = unit(2, 8), unit(6, 8, seed=1).view(2, 3, 8)
    cosines = torch.einsum("qd,qgd->qg", q, own)
    # Scores that make the same distribution as the cosines leave nothing to learn.
    assert soft_target_divergence(q, own, cosines * 2, 0.05, 0.1).abs().max() < 1e-9
    assert (soft_target_divergence(q, own, -cosines, 0.05, 0.1) > 0).all()


def test_every_positive_stands_against_the_negatives_alone():
    q, p, tau = unit(2, 8), unit(5, 8, seed=1), 0.1
    positives = torch.tensor([[True, True, False, False, False], [False, False, True, False, False]])
    mask = torch.tensor([[False, False, False, False, True], [False, False, False, True, False]])
    reference = []
    for i in range(2):
        score = [math.exp(float(q[i] @ d) / tau) for d in p]
        bad = sum(s for s, is_pos, out in zip(score, positives[i], mask[i], strict=True) if not is_pos and not out)
        own = [-math.log(s / (s + bad)) for s, is_pos in zip(score, positives[i], strict=True) if is_pos]
        reference.append(sum(own) / len(own))
    assert multi_positive(q, p, positives, tau, mask).tolist() == pytest.approx(reference, abs=1e-9)
    # With one positive and nothing left out it is InfoNCE.
    one = torch.eye(5, dtype=torch.bool)[:2]
    none = torch.zeros(2, 5, dtype=torch.bool)
    assert multi_positive(q, p, one, tau, none).tolist() == pytest.approx(infonce(q, p, torch.arange(2), tau).tolist())


def test_a_query_without_negatives_has_no_loss_and_no_gradient_that_is_no_number():
    q, p = unit(1, 8).requires_grad_(), unit(2, 8, seed=1)
    everything = torch.tensor([[True, True]])
    loss = multi_positive(q, p, everything, 0.1, everything) + rewrite_divergence(q, p[:1], p, 0.1, everything & False)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(q.grad).all()


def test_the_rewrite_teaches_the_query():
    q, r, p = unit(2, 8), unit(2, 8, seed=1), unit(5, 8, seed=2)
    mask = torch.zeros(2, 5, dtype=torch.bool)
    mask[0, 1] = True
    teacher = F.softmax((r[0] @ p[[0, 2, 3, 4]].T) / 0.1, dim=0)
    student = F.softmax((q[0] @ p[[0, 2, 3, 4]].T) / 0.1, dim=0)
    expected = (teacher * (teacher / student).log()).sum().item()
    assert rewrite_divergence(q, r, p, 0.1, mask)[0].item() == pytest.approx(expected, abs=1e-9)
    assert rewrite_divergence(r, r, p, 0.1).abs().max() < 1e-9
    r.requires_grad_()
    assert not rewrite_divergence(q, r, p, 0.1).requires_grad


def test_matryoshka_is_infonce_of_the_leading_dimensions():
    q, p = unit(3, 8), unit(3, 8, seed=1)
    short = [F.normalize(x[:, :4], dim=-1) for x in (q, p)]
    expected = (infonce(*short, torch.arange(3), 0.1) + infonce(q, p, torch.arange(3), 0.1)) / 2
    assert torch.allclose(matryoshka(q, p, torch.arange(3), 0.1, None, [4, 8]), expected)


TERMS = {
    "infonce": lambda q, p: infonce(q, p, torch.tensor([0, 2]), 0.5),
    "soft": lambda q, p: soft_target_divergence(q, p.view(2, 2, 4), torch.tensor([[0.9, 0.1], [0.4, 0.6]]), 0.5, 0.1),
    "multi": lambda q, p: multi_positive(q, p, torch.eye(4).bool()[[0, 2]], 0.5, torch.eye(4).bool()[[1, 3]]),
    "rewrite": lambda q, p: rewrite_divergence(
        q, unit(2, 4, seed=5), unit(4, 4, seed=1), 0.5, torch.eye(4).bool()[[1, 3]]
    ),
    "matryoshka": lambda q, p: matryoshka(q, p, torch.tensor([0, 2]), 0.5, None, [2, 3]),
}


@pytest.mark.parametrize("which", list(TERMS))
def test_gradients(which):
    q = unit(2, 4).requires_grad_()
    p = unit(4, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(TERMS[which], (q, p))


def _objective(model, queries, passages, rewrites, own_queries, own_passages, counts):
    """The loss of one rank's rows, weighted over the global batch; summed over ranks it is the loss of one rank."""
    q, p = (
        F.normalize(model(queries[own_queries]), dim=-1),
        gather(F.normalize(model(passages[own_passages]), dim=-1), counts),
    )
    r = F.normalize(model(rewrites[own_queries]), dim=-1).detach()
    positives = torch.arange(len(queries))[own_queries] * 2
    loss = infonce(q, p, positives, 0.05)
    ri = reasoning_intensity(loss, infonce(r, p.detach(), positives, 0.05), 5.0)
    return (ri / total(ri.sum()) * loss).sum()


def _rank(rank, world, port, answers):
    if world > 1:
        dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    torch.manual_seed(0)
    model = torch.nn.Linear(8, 8, dtype=torch.float64)
    queries, passages, rewrites = unit(5, 8), unit(10, 8, seed=1), unit(5, 8, seed=2)
    counts = shares(5, world)
    start, end = sum(counts[:rank]), sum(counts[: rank + 1])
    own = slice(start, end), slice(2 * start, 2 * end)
    loss = _objective(model, queries, passages, rewrites, *own, [2 * count for count in counts])
    (loss * world).backward()
    gradient = model.weight.grad
    if world > 1:  # what DeepSpeed does: average over the ranks
        dist.all_reduce(gradient)
        gradient = gradient / world
        dist.destroy_process_group()
    answers[(world, rank)] = gradient.flatten().tolist()


def test_two_ranks_equal_one():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    answers = mp.Manager().dict()
    _rank(0, 1, port, answers)
    mp.spawn(_rank, args=(2, port, answers), nprocs=2)
    for rank in (0, 1):
        assert answers[(2, rank)] == pytest.approx(answers[(1, 0)], abs=1e-9)
