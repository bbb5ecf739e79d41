"""Scores to rankings: fusion of lexical and dense scores, and a top-k that breaks ties the same way everywhere."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

RRF_K = 60  # Cormack et al., SIGIR 2009
Fusion = Literal["minmax", "rrf"]


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


def fuse_found(
    found: Sequence[tuple[np.ndarray, np.ndarray]], method: Fusion, weights: Sequence[float], k: int
) -> tuple[np.ndarray, np.ndarray]:
    """What several systems found for one query as one ranking: its k best ids and their scores.

    ``minmax`` sums scores stretched to [0, 1] over each system's finds, where a document that it did not find gets its
    worst, 0; ``rrf`` sums 1 / (60 + rank). Ties go to the document that the first of the systems has first.

    Args:
        found: (ids, scores) of each system, best first.
        method: of fusion.
        weights: of the systems.
        k: how many.
    """
    fused: dict[object, float] = {}
    for (ids, scores), weight in zip(found, weights, strict=True):
        if not len(ids):
            continue
        if method == "rrf":
            points = 1 / (RRF_K + np.arange(1, len(ids) + 1))
        else:
            spread = float(scores.max() - scores.min())
            points = (scores - scores.min()) / spread if spread else np.ones_like(scores)
        for name, value in zip(ids.tolist(), points.tolist(), strict=True):
            fused[name] = fused.get(name, 0.0) + weight * value
    names, values = np.array(list(fused), dtype=found[0][0].dtype), np.array(list(fused.values()))
    best = top_k(values, k)
    return names[best], values[best]
