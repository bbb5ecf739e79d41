"""The losses against oracles: another library, formulas in plain Python, and numeric gradients."""

import math

import pytest
import torch
import torch.nn.functional as F
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

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


def test_masked_passages_are_not_negatives():
    q, p = unit(1, 8), unit(3, 8, seed=1)
    mask = torch.tensor([[False, True, False]])
    masked = infonce(q, p, torch.tensor([0]), 0.05, mask)
    assert masked.item() == pytest.approx(infonce(q, p[[0, 2]], torch.tensor([0]), 0.05).item())


def test_ri_infonce_equals_a_plain_float64_reference():
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
    # Scores with the same distribution as the cosines give no divergence.
    assert soft_target_divergence(q, own, cosines * 2, 0.05, 0.1).abs().max() < 1e-9
    assert (soft_target_divergence(q, own, -cosines, 0.05, 0.1) > 0).all()


def test_every_positive_is_compared_with_the_negatives_alone():
    q, p, tau = unit(2, 8), unit(5, 8, seed=1), 0.1
    positives = torch.tensor([[True, True, False, False, False], [False, False, True, False, False]])
    mask = torch.tensor([[False, False, False, False, True], [False, False, False, True, False]])
    reference = []
    for i in range(2):
        exponentials = [math.exp(float(q[i] @ d) / tau) for d in p]
        columns = list(zip(exponentials, positives[i], mask[i], strict=True))
        negatives = sum(value for value, is_positive, is_masked in columns if not is_positive and not is_masked)
        losses = [-math.log(value / (value + negatives)) for value, is_positive, _ in columns if is_positive]
        reference.append(sum(losses) / len(losses))
    assert multi_positive(q, p, positives, tau, mask).tolist() == pytest.approx(reference, abs=1e-9)
    # With one positive and no masked passage it is InfoNCE.
    one_each = torch.eye(5, dtype=torch.bool)[:2]
    no_mask = torch.zeros(2, 5, dtype=torch.bool)
    assert multi_positive(q, p, one_each, tau, no_mask).tolist() == pytest.approx(
        infonce(q, p, torch.arange(2), tau).tolist()
    )


def test_loss_and_gradient_of_a_query_without_negatives_are_finite():
    q, p = unit(1, 8).requires_grad_(), unit(2, 8, seed=1)
    all_true = torch.tensor([[True, True]])
    loss = multi_positive(q, p, all_true, 0.1, all_true) + rewrite_divergence(q, p[:1], p, 0.1, ~all_true)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(q.grad).all()


def test_the_rewrite_is_the_teacher_of_the_query():
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
    leading = [F.normalize(x[:, :4], dim=-1) for x in (q, p)]
    expected = (infonce(*leading, torch.arange(3), 0.1) + infonce(q, p, torch.arange(3), 0.1)) / 2
    assert torch.allclose(matryoshka(q, p, torch.arange(3), 0.1, None, [4, 8]), expected)


LOSSES = {
    "infonce": lambda q, p: infonce(q, p, torch.tensor([0, 2]), 0.5),
    "soft": lambda q, p: soft_target_divergence(q, p.view(2, 2, 4), torch.tensor([[0.9, 0.1], [0.4, 0.6]]), 0.5, 0.1),
    "multi": lambda q, p: multi_positive(q, p, torch.eye(4).bool()[[0, 2]], 0.5, torch.eye(4).bool()[[1, 3]]),
    "rewrite": lambda q, p: rewrite_divergence(
        q, unit(2, 4, seed=5), unit(4, 4, seed=1), 0.5, torch.eye(4).bool()[[1, 3]]
    ),
    "matryoshka": lambda q, p: matryoshka(q, p, torch.tensor([0, 2]), 0.5, None, [2, 3]),
}


@pytest.mark.parametrize("name", list(LOSSES))
def test_gradients_equal_finite_differences(name):
    q = unit(2, 4).requires_grad_()
    p = unit(4, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(LOSSES[name], (q, p))
