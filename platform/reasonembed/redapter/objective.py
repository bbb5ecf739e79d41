"""A query's loss out of the terms that the settings weight, and the step's loss out of all queries'."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from reasonembed.config import Train
from reasonembed.redapter.batch_plan import Example
from reasonembed.redapter.gather import gather, total
from reasonembed.redapter.losses import (
    infonce,
    matryoshka,
    multi_positive,
    reasoning_intensity,
    rewrite_divergence,
    soft_target_divergence,
)
from reasonembed.redapter.masking import relate


@dataclass(frozen=True)
class Vectors:
    """Of one rank: (q, dim) queries and their rewrites (without gradient), (q x group, dim) passages; float32."""

    queries: torch.Tensor
    rewrites: torch.Tensor
    passages: torch.Tensor


@dataclass(frozen=True)
class Losses:
    """Per query of this rank, (q,) each; ``objective`` is what is weighted and summed."""

    objective: torch.Tensor
    query: torch.Tensor
    rewrite: torch.Tensor


def losses_of(
    vectors: Vectors, examples: Sequence[Example], queries: Sequence[int], place: int, settings: Train
) -> Losses:
    """
    Args:
        vectors: of this rank.
        examples: of this rank.
        queries: number of queries of every rank.
        place: this rank.
        settings: of training.
    """
    group = len(examples[0].passages)
    counts = [count * group for count in queries]
    own, device, tau = vectors.passages, vectors.passages.device, settings.temperature
    passages = gather(own, counts)
    relations = relate(examples, counts, sum(counts[:place]), settings.near_duplicate, device)
    mask, positives = relations.excluded, relations.own
    query = infonce(vectors.queries, passages, positives, tau, mask)
    rewrite = infonce(vectors.rewrites, passages.detach(), positives, tau, mask)
    main = query
    if settings.matryoshka_dims:
        shorter = matryoshka(vectors.queries, passages, positives, tau, mask, settings.matryoshka_dims)
        main = (query + shorter * len(settings.matryoshka_dims)) / (1 + len(settings.matryoshka_dims))
    objective = settings.infonce_weight * main
    if settings.multi_positive_weight:
        objective = objective + settings.multi_positive_weight * multi_positive(
            vectors.queries, passages, relations.known, tau, mask
        )
    if settings.soft_target_weight:
        objective = objective + settings.soft_target_weight * soft_target_divergence(
            vectors.queries,
            own.view(len(examples), group, -1),
            _targets(examples, settings.soft_target_from, device),
            tau,
            settings.soft_target_temperature,
        )
    if settings.rewrite_distillation_weight:
        objective = objective + settings.rewrite_distillation_weight * rewrite_divergence(
            vectors.queries, vectors.rewrites, passages, tau, mask
        )
    return Losses(objective, query.detach(), rewrite.detach())


def step_loss(losses: Losses, step: int, batch_size: int, settings: Train) -> tuple[torch.Tensor, torch.Tensor]:
    """This rank's part of the step's loss, whose sum over the ranks is the loss, and the intensities (q,).

    From ``ri_start_step`` on queries are weighted by their share of the global batch's reasoning intensity.
    """
    intensity = reasoning_intensity(losses.query, losses.rewrite, settings.ri_clamp)
    weights = torch.full_like(intensity, 1 / batch_size)
    if step >= settings.ri_start_step:
        weights = intensity / total(intensity.sum()).clamp(min=1e-9)
    return (weights * losses.objective).sum(), intensity


def _targets(examples: Sequence[Example], source: str, device: torch.device) -> torch.Tensor:
    """(q, group) in [0, 1]"""
    if source == "grade":
        return torch.tensor([e.grades for e in examples], dtype=torch.float32, device=device).sub(1).div(4)
    return torch.tensor([e.scores for e in examples], dtype=torch.float32, device=device)
