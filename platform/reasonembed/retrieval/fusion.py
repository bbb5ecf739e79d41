"""Fusion of dense and lexical scores, and a top-k that breaks ties in the same way everywhere."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

RRF_K = 60  # the constant k of Cormack et al., SIGIR 2009
Fusion = Literal["minmax", "rrf"]


def min_max(scores: np.ndarray) -> np.ndarray:
    """Returns the scores of one query, scaled to [0, 1]; all zero if they are all equal."""
    low, high = float(scores.min()), float(scores.max())
    return np.zeros_like(scores) if high <= low else (scores - low) / (high - low)


def fuse_scores(dense: np.ndarray, lexical: np.ndarray, lexical_weight: float) -> np.ndarray:
    """Returns the weighted sum of the min-max scaled scores of one query over all documents.

    Args:
        dense: (documents,).
        lexical: (documents,).
        lexical_weight: share of the lexical scores. With 0 or 1 the scores of one system are returned as they are.
    """
    if lexical_weight == 0:
        return dense
    if lexical_weight == 1:
        return lexical
    return (1 - lexical_weight) * min_max(dense) + lexical_weight * min_max(lexical)


def top_k(scores: np.ndarray, k: int, excluded: np.ndarray | None = None) -> np.ndarray:
    """Returns the positions of the k best finite scores, best first; of equal scores the lower position comes first.

    Args:
        scores: (documents,).
        k: number of results; fewer are returned if fewer are left.
        excluded: positions that are removed before the cut-off.
    """
    if excluded is not None and len(excluded):
        scores = scores.copy()
        scores[excluded] = -np.inf
    k = min(k, len(scores))
    if k == 0:
        return np.zeros(0, np.int64)
    # All scores equal to the k-th best are candidates, because a partial sort breaks ties arbitrarily.
    threshold = np.partition(scores, -k)[-k]
    candidates = np.flatnonzero(scores >= threshold)
    order = candidates[np.argsort(-scores[candidates], kind="stable")][:k]
    best: np.ndarray = order[np.isfinite(scores[order])]
    return best


def fuse_ranked_lists(
    ranked_lists: Sequence[tuple[np.ndarray, np.ndarray]], method: Fusion, weights: Sequence[float], k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Fuses the ranked lists of several systems for one query.

    ``minmax`` sums each list's scores, scaled to [0, 1]; a document that a list does not contain gets 0 from it, like
    the last one of the list. ``rrf`` sums 1 / (60 + rank) (Cormack et al., SIGIR 2009). Of equal sums the document
    comes first that is first in the earliest list.

    Args:
        ranked_lists: (ids, scores) of every system, best first.
        method: of fusion.
        weights: one per system.
        k: number of results.

    Returns:
        Ids and fused scores of the k best documents, best first.
    """
    fused: dict[object, float] = {}
    for (ids, scores), weight in zip(ranked_lists, weights, strict=True):
        if not len(ids):
            continue
        if method == "rrf":
            points = 1 / (RRF_K + np.arange(1, len(ids) + 1))
        else:
            spread = float(scores.max() - scores.min())
            points = (scores - scores.min()) / spread if spread else np.ones_like(scores)
        for doc_id, value in zip(ids.tolist(), points.tolist(), strict=True):
            fused[doc_id] = fused.get(doc_id, 0.0) + weight * value
    doc_ids, sums = np.array(list(fused), dtype=ranked_lists[0][0].dtype), np.array(list(fused.values()))
    best = top_k(sums, k)
    return doc_ids[best], sums[best]
