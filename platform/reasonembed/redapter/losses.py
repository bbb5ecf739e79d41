"""InfoNCE, reasoning intensity and soft targets, one value per query, over the passages of all ranks (METHOD §2)."""

import torch
import torch.nn.functional as F

EPSILON = 1e-6


def infonce(
    queries: torch.Tensor,
    passages: torch.Tensor,
    positives: torch.Tensor,
    temperature: float,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """-log of the positive's share in the softmax over all passages.

    Args:
        queries: (q, dim) unit vectors.
        passages: (p, dim) unit vectors, of all ranks.
        positives: (q,) index of each query's positive among the passages.
        temperature: tau, which divides the cosines.
        mask: (q, p), True where a passage is no negative for a query (a known positive, an equal text).

    Returns:
        (q,)
    """
    logits = queries @ passages.T / temperature
    if mask is not None:
        logits = logits.masked_fill(mask, float("-inf"))
    return F.cross_entropy(logits, positives, reduction="none")


def reasoning_intensity(loss: torch.Tensor, rewrite_loss: torch.Tensor, clamp: float) -> torch.Tensor:
    """RI_i = clamp(l_i / (l'_i + 1e-6), 0, kappa), without gradient: how much reasoning shortens the way. (q,)"""
    return (loss.detach() / (rewrite_loss.detach() + EPSILON)).clamp(0, clamp)


def soft_target_divergence(
    queries: torch.Tensor,
    own_passages: torch.Tensor,
    scores: torch.Tensor,
    temperature: float,
    target_temperature: float,
) -> torch.Tensor:
    """KL(softmax(scores / T) || softmax(cosines / tau)) over a query's own passages.

    Args:
        queries: (q, dim) unit vectors.
        own_passages: (q, group, dim) unit vectors.
        scores: (q, group) the annotator's scores.
        temperature: tau of the student.
        target_temperature: T of the annotator's scores.

    Returns:
        (q,)
    """
    student = F.log_softmax(torch.einsum("qd,qgd->qg", queries, own_passages) / temperature, dim=-1)
    teacher = F.softmax(scores / target_temperature, dim=-1)
    return F.kl_div(student, teacher, reduction="none").sum(-1)
