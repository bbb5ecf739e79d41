"""The losses of Redapter, one value per query, over the passages of all ranks.

Symbols: q queries of this rank, p passages of all ranks, dim numbers in a vector, s cosine, tau temperature.
"""

import torch
import torch.nn.functional as F

EPSILON = 1e-6
EXCLUDED_LOGIT = float("-inf")


def infonce(
    queries: torch.Tensor,
    passages: torch.Tensor,
    positives: torch.Tensor,
    temperature: float,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Computes InfoNCE (van den Oord et al., 2018, arXiv 1807.03748, equation 4), l_i of RI-InfoNCE.

    l_i = -log( exp(s(q_i, p_i) / tau) / sum_j exp(s(q_i, p_j) / tau) ), where p_i is the positive of query i and j runs
    over all passages that the mask does not exclude.

    Args:
        queries: (q, dim) unit vectors.
        passages: (p, dim) unit vectors, of all ranks.
        positives: (q,) index of each query's positive among the passages.
        temperature: tau.
        mask: (q, p), True where a passage is not a negative of the query (a known positive, an equal text).

    Returns:
        (q,) losses in nats.
    """
    logits = _mask_logits(queries @ passages.T / temperature, mask)
    return F.cross_entropy(logits, positives, reduction="none")


def multi_positive(
    queries: torch.Tensor,
    passages: torch.Tensor,
    positives: torch.Tensor,
    temperature: float,
    mask: torch.Tensor,
) -> torch.Tensor:
    """Computes the mean of InfoNCE over all positives of a query.

    Follows SupCon (Khosla et al., 2020, arXiv 2004.11362, equation 2), except that the other positives are left out of
    the denominator: 1/|P_i| sum_{p in P_i} -log( exp(s(q_i, p) / tau) / (exp(s(q_i, p) / tau) + sum_{n in N_i}
    exp(s(q_i, n) / tau)) ), with positives P_i and negatives N_i.

    Args:
        queries: (q, dim) unit vectors.
        passages: (p, dim) unit vectors, of all ranks.
        positives: (q, p), True for every known positive of a query; at least one per query.
        temperature: tau.
        mask: (q, p), True where a passage is not a negative; positives never are.

    Returns:
        (q,) losses in nats.
    """
    logits = queries @ passages.T / temperature
    negatives = torch.logsumexp(logits.masked_fill(mask | positives, EXCLUDED_LOGIT), dim=1, keepdim=True)
    per_positive = torch.logaddexp(logits, negatives) - logits
    return per_positive.masked_fill(~positives, 0).sum(1) / positives.sum(1)


def matryoshka(
    queries: torch.Tensor,
    passages: torch.Tensor,
    positives: torch.Tensor,
    temperature: float,
    mask: torch.Tensor | None,
    dims: list[int],
) -> torch.Tensor:
    """Computes the mean of InfoNCE over several leading sub-vectors (Kusupati et al., 2022, arXiv 2205.13147, eq. 1).

    The sub-vectors are normalised again and weighted alike.

    Args:
        queries: (q, dim) unit vectors.
        passages: (p, dim) unit vectors, of all ranks.
        positives: (q,) index of each query's positive among the passages.
        temperature: tau.
        mask: (q, p), True where a passage is not a negative of the query.
        dims: numbers of leading dimensions.

    Returns:
        (q,) losses in nats.
    """
    losses = [
        infonce(F.normalize(queries[:, :d], dim=-1), F.normalize(passages[:, :d], dim=-1), positives, temperature, mask)
        for d in dims
    ]
    return torch.stack(losses).mean(0)


def reasoning_intensity(loss: torch.Tensor, rewrite_loss: torch.Tensor, clamp: float) -> torch.Tensor:
    """Computes the reasoning intensity of RI-InfoNCE (ReasonEmbed, arXiv 2510.08252, Redapter), without gradient.

    RI_i = clamp(l_i / (l'_i + 1e-6), 0, kappa): how much the reasoning rewrite q'_i of a query lowers its loss.
    RI-InfoNCE is sum_i RI_i / (sum_j RI_j) * l_i over the queries of all ranks.

    Args:
        loss: (q,) InfoNCE l_i of the queries.
        rewrite_loss: (q,) InfoNCE l'_i of their rewrites.
        clamp: kappa.

    Returns:
        (q,) intensities between 0 and kappa.
    """
    return (loss.detach() / (rewrite_loss.detach() + EPSILON)).clamp(0, clamp)


def soft_target_divergence(
    queries: torch.Tensor,
    own_passages: torch.Tensor,
    scores: torch.Tensor,
    temperature: float,
    target_temperature: float,
) -> torch.Tensor:
    """Computes the divergence from the annotator's soft targets (Hinton et al., 2015, arXiv 1503.02531, section 2).

    KL( softmax(scores / T) || softmax(s / tau) ) over the passages of a query's own group.

    Args:
        queries: (q, dim) unit vectors.
        own_passages: (q, group, dim) unit vectors.
        scores: (q, group) the annotator's scores, in [0, 1].
        temperature: tau, of the student.
        target_temperature: T, of the annotator's scores.

    Returns:
        (q,) divergences in nats.
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
    """Computes the divergence of the query's ranking from its rewrite's, so that the query learns from the rewrite.

    KL( softmax(s(q'_i, .) / tau) || softmax(s(q_i, .) / tau) ) over the step's passages: self-distillation with the
    rewrite as teacher (the loss of Hinton et al., 2015, arXiv 1503.02531). The teacher has no gradient.

    Args:
        queries: (q, dim) unit vectors.
        rewrites: (q, dim) unit vectors of q'.
        passages: (p, dim) unit vectors, of all ranks.
        temperature: tau, of both.
        mask: (q, p), True where a passage is left out.

    Returns:
        (q,) divergences in nats.
    """
    with torch.no_grad():
        teacher = F.softmax(_mask_logits(rewrites @ passages.T / temperature, mask), dim=-1)
    student = F.log_softmax(_mask_logits(queries @ passages.T / temperature, mask), dim=-1)
    # For a masked passage 0 * -inf would be NaN, in the gradient too.
    if mask is not None:
        student = student.masked_fill(mask, 0.0)
    return F.kl_div(student, teacher, reduction="none").sum(-1)


def _mask_logits(logits: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    return logits if mask is None else logits.masked_fill(mask, EXCLUDED_LOGIT)
