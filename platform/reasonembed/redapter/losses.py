"""The losses of Redapter, one value per query, over the passages of all ranks (METHOD §2)."""

import torch
import torch.nn.functional as F

EPSILON = 1e-6
NEVER = float("-inf")


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
    logits = _masked(queries @ passages.T / temperature, mask)
    return F.cross_entropy(logits, positives, reduction="none")


def multi_positive(
    queries: torch.Tensor,
    passages: torch.Tensor,
    positives: torch.Tensor,
    temperature: float,
    mask: torch.Tensor,
) -> torch.Tensor:
    """Mean over a query's positives of the InfoNCE in which that positive stands against the negatives alone.

    Args:
        queries: (q, dim) unit vectors.
        passages: (p, dim) unit vectors, of all ranks.
        positives: (q, p), True for every known positive of a query; at least one a query.
        temperature: tau.
        mask: (q, p), True where a passage is no negative; positives are none in any case.

    Returns:
        (q,)
    """
    logits = queries @ passages.T / temperature
    negatives = torch.logsumexp(logits.masked_fill(mask | positives, NEVER), dim=1, keepdim=True)
    each = torch.logaddexp(logits, negatives) - logits
    return each.masked_fill(~positives, 0).sum(1) / positives.sum(1)


def matryoshka(
    queries: torch.Tensor,
    passages: torch.Tensor,
    positives: torch.Tensor,
    temperature: float,
    mask: torch.Tensor | None,
    dims: list[int],
) -> torch.Tensor:
    """Mean over ``dims`` of the InfoNCE of so many leading dimensions, normalised anew (Kusupati et al., 2022). (q,)"""
    parts = [
        infonce(F.normalize(queries[:, :d], dim=-1), F.normalize(passages[:, :d], dim=-1), positives, temperature, mask)
        for d in dims
    ]
    return torch.stack(parts).mean(0)


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


def rewrite_divergence(
    queries: torch.Tensor,
    rewrites: torch.Tensor,
    passages: torch.Tensor,
    temperature: float,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """KL(softmax(cosines of q' / tau) || softmax(cosines of q / tau)) over the step's passages: what the rewrite knows
    goes into the query. The rewrite's side has no gradient.

    Args:
        queries: (q, dim) unit vectors.
        rewrites: (q, dim) unit vectors of q'.
        passages: (p, dim) unit vectors, of all ranks.
        temperature: tau of both.
        mask: (q, p), True where a passage is left out.

    Returns:
        (q,)
    """
    with torch.no_grad():
        teacher = F.softmax(_masked(rewrites @ passages.T / temperature, mask), dim=-1)
    student = F.log_softmax(_masked(queries @ passages.T / temperature, mask), dim=-1)
    # 0 x -inf of a passage that is left out would be no number, in the gradient too.
    if mask is not None:
        student = student.masked_fill(mask, 0.0)
    return F.kl_div(student, teacher, reduction="none").sum(-1)


def _masked(logits: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    return logits if mask is None else logits.masked_fill(mask, NEVER)
