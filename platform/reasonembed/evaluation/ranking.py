"""Rankings: for every question of a benchmark its documents, best first, without the excluded ones."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reasonembed import schemas
from reasonembed.retrieval.bm25 import Weights
from reasonembed.retrieval.collection import Collection
from reasonembed.retrieval.fusion import Fusion, fuse_found, top_k

RANKING_FILE = "ranking.parquet"
DEPTH = 1000
QUERIES_AT_A_TIME = 64

Scorer = Callable[[Collection, Sequence[str]], np.ndarray]
"""(collection, query texts) to (queries, documents) scores."""


def rank_questions(
    questions: pa.Table,
    collections: Iterator[tuple[str, Collection]],
    score: Scorer,
    query_text: Callable[[dict[str, Any]], str],
    depth: int = DEPTH,
) -> pa.Table:
    """Exact search over all documents of each question's task; ``schemas.RANKING``.

    Args:
        questions: ``schemas.QUESTIONS``.
        collections: (task, its documents); one at a time is held.
        score: of the system.
        query_text: of a question.
        depth: where rankings are cut.
    """
    tables = [schemas.RANKING.empty_table()]
    for task, collection in collections:
        doc_ids = np.array(collection.doc_ids, dtype=object)
        rows = questions.filter(pc.equal(questions["task"], task)).to_pylist()
        for start in range(0, len(rows), QUERIES_AT_A_TIME):
            block = rows[start : start + QUERIES_AT_A_TIME]
            scores = score(collection, [query_text(row) for row in block])
            for row, values in zip(block, scores, strict=True):
                # Before the cut-off: removing them afterwards would leave shorter rankings (METHOD §3, rule 1).
                best = top_k(values, depth, excluded=collection.positions(row["excluded_ids"]))
                tables.append(_ranked(task, row["query_id"], doc_ids[best], values[best]))
    return pa.concat_tables(tables).combine_chunks()


def _ranked(task: str, query_id: str, doc_ids: np.ndarray, scores: np.ndarray) -> pa.Table:
    size = len(doc_ids)
    columns = [[task] * size, [query_id] * size, doc_ids, np.arange(1, size + 1, dtype=np.int32)]
    return pa.table([*columns, scores.astype(np.float32)], schema=schemas.RANKING)


def bm25_scorer(weights: Weights) -> Scorer:
    return lambda collection, queries: np.stack([collection.bm25.scores(query, weights) for query in queries])


def fuse_rankings(
    rankings: Sequence[pa.Table], method: Fusion, weights: Sequence[float], depth: int = DEPTH
) -> pa.Table:
    """One ranking of several, question by question, by ``retrieval.ranking.fuse_found``.

    Args:
        rankings: ``schemas.RANKING`` each.
        method: of fusion.
        weights: of the rankings.
        depth: where the fused ranking is cut.
    """
    nothing = (np.array([], dtype=object), np.zeros(0))
    found: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = {}
    for number, ranking in enumerate(rankings):
        for key, rows in by_question(ranking):
            doc_ids = np.array(rows["doc_id"].to_pylist(), dtype=object)
            found.setdefault(key, [nothing] * len(rankings))[number] = (doc_ids, rows["score"].to_numpy())
    tables = [schemas.RANKING.empty_table()]
    for (task, query_id), of_systems in found.items():
        tables.append(_ranked(task, query_id, *fuse_found(of_systems, method, weights, depth)))
    return pa.concat_tables(tables).combine_chunks()


def by_question(ranking: pa.Table) -> Iterator[tuple[tuple[str, str], pa.Table]]:
    """((task, query id), its rows); the rows of a question stand together."""
    keys = list(zip(ranking["task"].to_pylist(), ranking["query_id"].to_pylist(), strict=True))
    start = 0
    for end in range(1, len(keys) + 1):
        if end == len(keys) or keys[end] != keys[start]:
            yield keys[start], ranking.slice(start, end - start)
            start = end
