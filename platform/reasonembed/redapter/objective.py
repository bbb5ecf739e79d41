"""The training objective: a query's loss as a weighted sum of terms, and the step's loss over all queries.

A new loss is a function in ``losses.py``, an entry in ``TERMS`` and its weight among the settings of training.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from reasonembed.config import Train
from reasonembed.redapter.batch_plan import Example
from reasonembed.redapter.gather import gather, sum_over_ranks
from reasonembed.redapter.losses import (
    infonce,
    matryoshka,
    multi_positive,
    reasoning_intensity,
    rewrite_divergence,
    soft_target_divergence,
)
from reasonembed.redapter.masking import PassageMasks, passage_masks


@dataclass(frozen=True)
class Vectors:
    """The unit vectors of one rank, float32.

    Args:
        queries: (q, dim).
        rewrites: (q, dim), without gradient.
        passages: (q x group, dim).
    """

    queries: torch.Tensor
    rewrites: torch.Tensor
    passages: torch.Tensor


@dataclass(frozen=True)
class QueryLosses:
    """The losses of this rank's queries, (q,) each.

    Args:
        objective: the weighted sum of all terms, with gradient.
        query: InfoNCE of the queries, without gradient.
        rewrite: InfoNCE of their rewrites, without gradient.
    """

    objective: torch.Tensor
    query: torch.Tensor
    rewrite: torch.Tensor


@dataclass(frozen=True)
class TermInputs:
    """Everything that a term may be computed from.

    Args:
        queries: (q, dim) unit vectors of this rank.
        rewrites: (q, dim) unit vectors of this rank, without gradient.
        passages: (p, dim) unit vectors of all ranks.
        rank_passages: (q x group, dim) unit vectors of this rank.
        masks: relations between queries and passages.
        examples: texts, scores and grades of this rank.
        settings: of training.
    """

    queries: torch.Tensor
    rewrites: torch.Tensor
    passages: torch.Tensor
    rank_passages: torch.Tensor
    masks: PassageMasks
    examples: Sequence[Example]
    settings: Train

    @property
    def own_passages(self) -> torch.Tensor:
        """The passages of each query's own group, (q, group, dim)."""
        return self.rank_passages.view(len(self.examples), -1, self.rank_passages.shape[-1])


class Term(NamedTuple):
    """An optional term of the objective; it is computed only where its weight is not 0."""

    name: str
    """The setting ``train.<name>_weight`` is its weight."""
    weight: Callable[[Train], float]
    loss: Callable[[TermInputs], torch.Tensor]
    """Returns (q,) losses."""
    uses_rewrites: bool = False
    """Whether the loss depends on the vectors of the rewrites, which otherwise may not be encoded."""


def query_losses(
    vectors: Vectors, examples: Sequence[Example], queries_per_rank: Sequence[int], rank: int, settings: Train
) -> QueryLosses:
    """Computes the losses of this rank's queries against the passages of all ranks. Every rank must call this.

    Args:
        vectors: of this rank.
        examples: of this rank.
        queries_per_rank: number of queries of every rank.
        rank: number of this rank.
        settings: of training.
    """
    group_size = len(examples[0].passages)
    passages_per_rank = [count * group_size for count in queries_per_rank]
    passages = gather(vectors.passages, passages_per_rank)
    first = sum(passages_per_rank[:rank])
    masks = passage_masks(examples, passages_per_rank, first, settings.near_duplicate, passages.device)
    tau, positives, excluded = settings.temperature, masks.positives, masks.excluded
    query = infonce(vectors.queries, passages, positives, tau, excluded)
    rewrite = infonce(vectors.rewrites, passages.detach(), positives, tau, excluded)
    inputs = TermInputs(vectors.queries, vectors.rewrites, passages, vectors.passages, masks, examples, settings)
    objective = settings.infonce_weight * _infonce_of_all_dims(query, inputs)
    for term in TERMS:
        if weight := term.weight(settings):
            objective = objective + weight * term.loss(inputs)
    return QueryLosses(objective, query.detach(), rewrite.detach())


def step_loss(losses: QueryLosses, step: int, batch_size: int, settings: Train) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes RI-InfoNCE (ReasonEmbed, arXiv 2510.08252, Redapter): sum_i RI_i / (sum_j RI_j) * l_i over all ranks.

    Before ``ri_start_step`` all queries have the same weight.

    Args:
        losses: of this rank's queries.
        step: number of the step, from 0.
        batch_size: queries of all ranks.
        settings: of training.

    Returns:
        This rank's part of the loss, a scalar whose sum over the ranks is the loss, and the reasoning intensities (q,).
    """
    intensity = reasoning_intensity(losses.query, losses.rewrite, settings.ri_clamp)
    weights = torch.full_like(intensity, 1 / batch_size)
    if step >= settings.ri_start_step:
        weights = intensity / sum_over_ranks(intensity.sum()).clamp(min=1e-9)
    return (weights * losses.objective).sum(), intensity


def uses_rewrites(settings: Train, steps: int) -> bool:
    """Returns whether a training of so many steps needs the vectors of the rewrites.

    A training that never weights by intensity, such as a warm-up on MS MARCO, does not; every intensity is 1 then.
    """
    return settings.ri_start_step < steps or any(term.uses_rewrites and term.weight(settings) for term in TERMS)


def _infonce_of_all_dims(full: torch.Tensor, inputs: TermInputs) -> torch.Tensor:
    """Returns the mean of InfoNCE over the whole vectors (``full``, (q,)) and ``matryoshka_dims``."""
    settings, masks = inputs.settings, inputs.masks
    dims = settings.matryoshka_dims
    if not dims:
        return full
    leading = matryoshka(inputs.queries, inputs.passages, masks.positives, settings.temperature, masks.excluded, dims)
    return (full + leading * len(dims)) / (1 + len(dims))


def _multi_positive(inputs: TermInputs) -> torch.Tensor:
    masks, tau = inputs.masks, inputs.settings.temperature
    return multi_positive(inputs.queries, inputs.passages, masks.known_positives, tau, masks.excluded)


def _soft_target(inputs: TermInputs) -> torch.Tensor:
    settings, device = inputs.settings, inputs.queries.device
    if settings.soft_target_from == "grade":
        grades = torch.tensor([e.grades for e in inputs.examples], dtype=torch.float32, device=device)
        targets = grades.sub(1).div(4)  # grades 1 to 5 become 0 to 1
    else:
        targets = torch.tensor([e.scores for e in inputs.examples], dtype=torch.float32, device=device)
    tau, target_tau = settings.temperature, settings.soft_target_temperature
    return soft_target_divergence(inputs.queries, inputs.own_passages, targets, tau, target_tau)


def _rewrite_distillation(inputs: TermInputs) -> torch.Tensor:
    tau, excluded = inputs.settings.temperature, inputs.masks.excluded
    return rewrite_divergence(inputs.queries, inputs.rewrites, inputs.passages, tau, excluded)


TERMS = (
    Term("multi_positive", lambda settings: settings.multi_positive_weight, _multi_positive),
    Term("soft_target", lambda settings: settings.soft_target_weight, _soft_target),
    Term(
        "rewrite_distillation",
        lambda settings: settings.rewrite_distillation_weight,
        _rewrite_distillation,
        uses_rewrites=True,
    ),
)
