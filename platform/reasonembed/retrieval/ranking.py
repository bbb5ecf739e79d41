"""Scores to rankings: fusion of lexical and dense scores, and a top-k that breaks ties the same way everywhere."""

import numpy as np


def min_max(scores: np.ndarray) -> np.ndarray:
    """Scores of one query stretched to [0, 1]; all zero when they are all equal."""
    low, high = float(scores.min()), float(scores.max())
    return np.zeros_like(scores) if high <= low else (scores - low) / (high - low)


def fuse(dense: np.ndarray, lexical: np.ndarray, lexical_weight: float) -> np.ndarray:
    """Weighted sum of the min-max scaled scores of one query; both (documents,)."""
    if lexical_weight == 0:
        return dense
    if lexical_weight == 1:
        return lexical
    return (1 - lexical_weight) * min_max(dense) + lexical_weight * min_max(lexical)


def top_k(scores: np.ndarray, k: int, excluded: np.ndarray | None = None) -> np.ndarray:
    """Positions of the k best scores, best first; ties go to the lower position.

    Args:
        scores: (documents,).
        k: how many; fewer come back when fewer are left.
        excluded: positions that leave the ranking before the cut-off.
    """
    if excluded is not None and len(excluded):
        scores = scores.copy()
        scores[excluded] = -np.inf
    k = min(k, len(scores))
    if k == 0:
        return np.zeros(0, np.int64)
    # Every score equal to the k-th best is a contestant, or a partial sort would break ties by chance.
    threshold = np.partition(scores, -k)[-k]
    contestants = np.flatnonzero(scores >= threshold)
    order = contestants[np.argsort(-scores[contestants], kind="stable")][:k]
    best: np.ndarray = order[np.isfinite(scores[order])]
    return best
