"""A run: for every question of a benchmark its documents, best first, without the excluded ones."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from reasonembed.retrieval.collection import Collection
from reasonembed.retrieval.ranking import top_k

DEPTH = 1000

Key = tuple[str, str]  # (task, query id)
Ranking = dict[Key, list[tuple[str, float]]]
Scorer = Callable[[Collection, Sequence[str]], np.ndarray]
"""(collection, query texts) to (queries, documents) scores."""


def rank_questions(
    questions: pa.Table, collections: dict[str, Collection], score: Scorer, query_text: Callable[[dict[str, Any]], str]
) -> Ranking:
    """Exact search over all documents of each question's task, to depth ``DEPTH``."""
    run: Ranking = {}
    for task, collection in collections.items():
        rows = [row for row in questions.to_pylist() if row["task"] == task]
        for start in range(0, len(rows), 64):
            block = rows[start : start + 64]
            scores = score(collection, [query_text(row) for row in block])
            for row, values in zip(block, scores, strict=True):
                # Before the cut-off: removing them afterwards would leave shorter rankings (METHOD §3, rule 1).
                best = top_k(values, DEPTH, excluded=collection.positions(row["excluded_ids"]))
                run[task, row["query_id"]] = [(collection.doc_ids[p], float(values[p])) for p in best]
    return run


def bm25_scores(collection: Collection, queries: Sequence[str]) -> np.ndarray:
    return np.stack([collection.bm25.scores(query) for query in queries])


def dense_scorer(encode: Callable[[Sequence[str]], np.ndarray]) -> Scorer:
    """Inner products in fp32."""
    return lambda collection, queries: encode(queries) @ collection.vectors.T


def trec_lines(run: Ranking, tag: str) -> str:
    """TREC run format, fields separated by tabs so that ids may contain spaces; the query id is ``task/query``."""
    lines = []
    for (task, query_id), ranked in run.items():
        for rank, (doc_id, score) in enumerate(ranked, start=1):
            lines.append(f"{task}/{query_id}\tQ0\t{doc_id}\t{rank}\t{score:.6f}\t{tag}")
    return "\n".join(lines) + "\n"
