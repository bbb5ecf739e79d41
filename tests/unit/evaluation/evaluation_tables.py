"""Small tables for the tests of evaluation."""

import numpy as np
import pyarrow as pa

from reasonembed import schemas
from reasonembed.corpora.tables import question_row
from reasonembed.evaluation.metrics import MEASURES, RANKED
from reasonembed.evaluation.ranking import rank_questions
from reasonembed.retrieval.collection import Collection


def questions(*rows):
    """Returns ``schemas.QUESTIONS`` of (task, query id, grades by document id, excluded ids)."""
    return pa.Table.from_pylist(
        [question_row(task, query_id, "?", "", gold, excluded) for task, query_id, gold, excluded in rows],
        schema=schemas.QUESTIONS,
    )


def corpus(*texts):
    """Returns ``schemas.CORPUS`` of texts with the ids ``d 0``, ``d 1``, ... in task ``t``."""
    return pa.table(
        [["t"] * len(texts), [f"d {i}" for i in range(len(texts))], [""] * len(texts), texts], schema=schemas.CORPUS
    )


def ranking(*rows):
    """Returns ``schemas.RANKING`` of (task, query id, document id, score), in order."""
    ranks = [sum(1 for other in rows[: n + 1] if other[:2] == row[:2]) for n, row in enumerate(rows)]
    return pa.table(
        [*([row[n] for row in rows] for n in range(3)), ranks, [row[3] for row in rows]], schema=schemas.RANKING
    )


def rank(table, scores, depth=1000):
    """Ranks the questions of task ``t`` by the same scores of the documents ``d 0``, ``d 1``, ..."""
    size = len(scores)
    collection = Collection([f"d {i}" for i in range(size)], ["x"] * size, np.zeros((size, 0)))
    score = lambda collection, queries: np.tile(np.array(scores, np.float32), (len(queries), 1))  # noqa: E731
    return rank_questions(table, iter([("t", collection)]), score, lambda row: row["query"], depth)


def measures(values, task="t"):
    """Returns a table of ``metrics.per_question`` in which every measure of a question has the same value."""
    size = len(values)
    columns = dict.fromkeys(MEASURES, values)
    return pa.table(
        {"task": [task] * size, "query_id": [str(i) for i in range(size)], **columns, RANKED: [True] * size}
    )
