"""The objective against the formulas of the paper in numpy, on one rank and on two."""

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from processes import free_port

from reasonembed.config import Train
from reasonembed.redapter.batch_plan import Example, rows_per_rank
from reasonembed.redapter.minhash import HASHES
from reasonembed.redapter.objective import TERMS, Vectors, query_losses, step_loss, uses_rewrites

QUERIES, GROUP, DIM, TAU, KAPPA = 5, 2, 8, 0.5, 1.1
# Passage 7 (a negative of query 3) has the text of a known positive of query 0. With two ranks it is on the other rank.
EXCLUDED = {(0, 7)}


def settings(**changes):
    values = {"temperature": TAU, "ri_clamp": KAPPA, "ri_start_step": 0, "near_duplicate": 1.0}
    return Train(**{"workers": 1, "batch_size": QUERIES, "group_size": GROUP} | values | changes)


def inputs():
    """Inputs of the model, (rows, DIM) each, of queries, rewrites and passages."""
    rng = np.random.default_rng(0)
    return tuple(rng.standard_normal((rows, DIM)) for rows in (QUERIES, QUERIES, QUERIES * GROUP))


def examples():
    return [
        Example(
            query_id=f"q{n}",
            prompt="",
            query="",
            reasoning_query="",
            passages=[""] * GROUP,
            positives=1,
            scores=[0.9, 0.1],
            grades=[5, 1],
            keys=[n * GROUP, n * GROUP + 1],
            signatures=np.zeros((GROUP, HASHES), np.int32),
            positive_keys=[n * GROUP, *(passage for query, passage in EXCLUDED if query == n)],
        )
        for n in range(QUERIES)
    ]


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def reference_losses(weight, texts, passages):
    """InfoNCE of texts with the positives 0, 2, 4, ...: arXiv 1807.03748, equation 4, with the mask above."""
    cosines = unit(texts @ weight.T) @ unit(passages @ weight.T).T
    losses = []
    for i, row in enumerate(np.exp(cosines / TAU)):
        denominator = sum(value for j, value in enumerate(row) if (i, j) not in EXCLUDED)
        losses.append(-np.log(row[GROUP * i] / denominator))
    return np.array(losses)


def reference(weight):
    """Loss, gradient with respect to the weight, and intensities of RI-InfoNCE (arXiv 2510.08252, Redapter).

    The gradient is numeric: central differences of the loss, with the weights of the queries held constant.
    """
    queries, rewrites, passages = inputs()
    losses = reference_losses(weight, queries, passages)
    intensity = np.clip(losses / (reference_losses(weight, rewrites, passages) + 1e-6), 0, KAPPA)
    query_weights = intensity / intensity.sum()
    gradient = np.zeros_like(weight)
    for index in np.ndindex(*weight.shape):
        step = np.zeros_like(weight)
        step[index] = 1e-5
        difference = reference_losses(weight + step, queries, passages) - reference_losses(
            weight - step, queries, passages
        )
        gradient[index] = query_weights @ difference / 2e-5
    return query_weights @ losses, gradient, intensity


def run_rank(rank, world, port, weight, results):
    """Puts this rank's loss and intensities, and the gradient summed over the ranks, into ``results``."""
    if world > 1:
        dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    parameter = torch.tensor(weight, requires_grad=True)
    counts = rows_per_rank(QUERIES, world)
    start, end = sum(counts[:rank]), sum(counts[: rank + 1])
    queries, rewrites, passages = (torch.from_numpy(rows) for rows in inputs())
    vectors = Vectors(
        F.normalize(queries[start:end] @ parameter.T, dim=-1),
        F.normalize(rewrites[start:end] @ parameter.T, dim=-1).detach(),
        F.normalize(passages[GROUP * start : GROUP * end] @ parameter.T, dim=-1),
    )
    losses = query_losses(vectors, examples()[start:end], counts, rank, settings())
    loss, intensity = step_loss(losses, 0, QUERIES, settings())
    loss.backward()
    gradient = parameter.grad
    if world > 1:
        dist.all_reduce(gradient)
        dist.destroy_process_group()
    results[(world, rank)] = loss.item(), gradient.tolist(), intensity.tolist()


@pytest.fixture(scope="module")
def weight():
    return np.random.default_rng(1).standard_normal((DIM, DIM))


@pytest.fixture(scope="module")
def results(weight):
    results = mp.Manager().dict()
    run_rank(0, 1, 0, weight, results)
    mp.spawn(run_rank, args=(2, free_port(), weight, results), nprocs=2)
    return results


def test_loss_gradient_and_intensities_equal_the_papers_formulas(results, weight):
    loss, gradient, intensity = reference(weight)
    assert 0 < intensity.min() < intensity.max() == KAPPA  # some are clamped, others are not
    ours = results[(1, 0)]
    assert ours[0] == pytest.approx(loss, abs=1e-12)
    assert np.array(ours[1]) == pytest.approx(gradient, abs=1e-8)
    assert ours[2] == pytest.approx(intensity)


def test_two_ranks_equal_one(results):
    loss, gradient, intensity = results[(1, 0)]
    assert results[(2, 0)][0] + results[(2, 1)][0] == pytest.approx(loss, abs=1e-12)
    assert results[(2, 0)][2] + results[(2, 1)][2] == pytest.approx(intensity, abs=1e-9)
    for rank in (0, 1):
        assert np.array(results[(2, rank)][1]) == pytest.approx(np.array(gradient), abs=1e-9)


def unit_vectors(rows, seed):
    return F.normalize(torch.randn(rows, DIM, generator=torch.Generator().manual_seed(seed)), dim=-1)


def objective(**changes):
    vectors = Vectors(unit_vectors(QUERIES, 0), unit_vectors(QUERIES, 1), unit_vectors(QUERIES * GROUP, 2))
    return query_losses(vectors, examples(), [QUERIES], 0, settings(**changes)).objective


def test_before_the_start_step_all_queries_weigh_the_same():
    vectors = Vectors(unit_vectors(QUERIES, 0), unit_vectors(QUERIES, 1), unit_vectors(QUERIES * GROUP, 2))
    late = settings(ri_start_step=3)
    losses = query_losses(vectors, examples(), [QUERIES], 0, late)
    assert step_loss(losses, 2, QUERIES, late)[0].item() == pytest.approx(losses.objective.mean().item())
    assert step_loss(losses, 3, QUERIES, late)[0].item() != pytest.approx(losses.objective.mean().item())


def test_every_weight_among_the_settings_belongs_to_a_term():
    weights = {name for name in Train.model_fields if name.endswith("_weight")} - {"infonce_weight"}
    assert weights == {f"{term.name}_weight" for term in TERMS}
    for term in TERMS:
        assert term.weight(settings(**{f"{term.name}_weight": 0.7})) == 0.7


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.name)
def test_a_term_is_added_with_its_weight(term):
    infonce = objective()
    alone = objective(infonce_weight=0.0, **{f"{term.name}_weight": 1.0})
    assert (alone != infonce).any()
    both = objective(infonce_weight=0.5, **{f"{term.name}_weight": 0.25})
    assert both.tolist() == pytest.approx((0.5 * infonce + 0.25 * alone).tolist(), rel=1e-5)


def test_matryoshka_is_the_mean_over_the_whole_vectors_and_their_leading_parts():
    whole = objective()
    one, two = (objective(matryoshka_dims=[dims]) * 2 - whole for dims in (4, 2))
    assert objective(matryoshka_dims=[4, 2]).tolist() == pytest.approx(((whole + one + two) / 3).tolist(), rel=1e-5)


def test_rewrites_are_used_for_intensities_and_for_distillation():
    assert uses_rewrites(settings(ri_start_step=9), steps=10)
    assert not uses_rewrites(settings(ri_start_step=10), steps=10)
    assert uses_rewrites(settings(ri_start_step=10, rewrite_distillation_weight=0.1), steps=10)
    assert not uses_rewrites(settings(ri_start_step=10, multi_positive_weight=0.1), steps=10)
