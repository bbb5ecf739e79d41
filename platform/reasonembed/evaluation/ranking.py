"""Rankings: the documents for every question of a benchmark, best first, without the excluded ones."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reasonembed import schemas
from reasonembed.retrieval.bm25 import QueryWeighting
from reasonembed.retrieval.collection import Collection
from reasonembed.retrieval.fusion import Fusion, fuse_ranked_lists, top_k

RANKING_FILE = "ranking.parquet"
DEPTH = 1000
"""Documents per question in a ranking."""
QUERY_BATCH = 64

Scorer = Callable[[Collection, Sequence[str]], np.ndarray]
"""(collection, query texts) to (queries, documents) scores."""


def rank_questions(
    questions: pa.Table,
    collections: Iterator[tuple[str, Collection]],
    score: Scorer,
    query_text: Callable[[dict[str, Any]], str],
    depth: int = DEPTH,
) -> pa.Table:
    """Ranks all documents of a question's task for every question, by exact search.

    Args:
        questions: ``schemas.QUESTIONS``.
        collections: (task, its documents), of which one is in memory at a time.
        score: the scorer of the system.
        query_text: row of a question to the text that the scorer gets.
        depth: number of documents per question.

    Returns:
        ``schemas.RANKING``.
    """
    tables = [schemas.RANKING.empty_table()]
    for task, collection in collections:
        doc_ids = np.array(collection.doc_ids, dtype=object)
        rows = questions.filter(pc.equal(questions["task"], task)).to_pylist()
        for start in range(0, len(rows), QUERY_BATCH):
            batch = rows[start : start + QUERY_BATCH]
            scores = score(collection, [query_text(row) for row in batch])
            for row, values in zip(batch, scores, strict=True):
                # Excluded before the cut-off: removing documents after it would leave shorter rankings.
                best = top_k(values, depth, excluded=collection.positions(row["excluded_ids"]))
                tables.append(_question_ranking(task, row["query_id"], doc_ids[best], values[best]))
    return pa.concat_tables(tables).combine_chunks()


def _question_ranking(task: str, query_id: str, doc_ids: np.ndarray, scores: np.ndarray) -> pa.Table:
    """Returns ``schemas.RANKING`` of one question, whose documents are given best first."""
    size = len(doc_ids)
    columns = [[task] * size, [query_id] * size, doc_ids, np.arange(1, size + 1, dtype=np.int32)]
    return pa.table([*columns, scores.astype(np.float32)], schema=schemas.RANKING)


def bm25_scorer(weighting: QueryWeighting) -> Scorer:
    """Returns the scorer of BM25 with a weighting of the query's tokens."""
    return lambda collection, queries: np.stack([collection.bm25.scores(query, weighting) for query in queries])


def fuse_rankings(
    rankings: Sequence[pa.Table], method: Fusion, weights: Sequence[float], depth: int = DEPTH
) -> pa.Table:
    """Fuses the rankings of several systems question by question; see ``fusion.fuse_ranked_lists``.

    Args:
        rankings: ``schemas.RANKING`` of every system.
        method: of fusion.
        weights: one per system.
        depth: number of documents per question.

    Returns:
        ``schemas.RANKING``.
    """
    empty = (np.array([], dtype=object), np.zeros(0))
    lists_by_question: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = {}
    for system, ranking in enumerate(rankings):
        for key, rows in group_by_question(ranking):
            doc_ids = np.array(rows["doc_id"].to_pylist(), dtype=object)
            ranked_lists = lists_by_question.setdefault(key, [empty] * len(rankings))
            ranked_lists[system] = (doc_ids, rows["score"].to_numpy())
    tables = [schemas.RANKING.empty_table()]
    for (task, query_id), ranked_lists in lists_by_question.items():
        tables.append(_question_ranking(task, query_id, *fuse_ranked_lists(ranked_lists, method, weights, depth)))
    return pa.concat_tables(tables).combine_chunks()


def group_by_question(ranking: pa.Table) -> Iterator[tuple[tuple[str, str], pa.Table]]:
    """Yields ((task, query id), rows) of every question.

    Args:
        ranking: ``schemas.RANKING``, in which the rows of a question follow one another.
    """
    keys = list(zip(ranking["task"].to_pylist(), ranking["query_id"].to_pylist(), strict=True))
    start = 0
    for end in range(1, len(keys) + 1):
        if end == len(keys) or keys[end] != keys[start]:
            yield keys[start], ranking.slice(start, end - start)
            start = end
