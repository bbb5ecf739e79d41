"""The questions on which a system fails most, with what it retrieved and what is relevant."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from reasonembed import schemas
from reasonembed.evaluation.metrics import MAIN
from reasonembed.evaluation.ranking import group_by_question

MAX_FAILURES = 10
MAX_DOCUMENTS = 3
DOCUMENT_CHARS = 320
QUERY_CHARS = 960


@dataclass(frozen=True)
class FailureDocument:
    """A document of a failure: a retrieved or a relevant one."""

    doc_id: str
    text: str
    """Cut to ``DOCUMENT_CHARS``."""
    rank: int | None
    """From 1; None for a document that the ranking does not contain."""
    relevant: bool


@dataclass(frozen=True)
class Failure:
    """A question that a system answers badly."""

    task: str
    query_id: str
    query: str
    """Cut to ``QUERY_CHARS``."""
    ndcg: float
    """nDCG@10."""
    retrieved: Sequence[FailureDocument]
    """The first documents of the ranking."""
    relevant: Sequence[FailureDocument]
    """The gold documents that are ranked highest."""


def failed_questions(
    table: pa.Table, questions: pa.Table, ranking: pa.Table, texts: Mapping[tuple[str, str], str]
) -> list[Failure]:
    """Returns the ``MAX_FAILURES`` questions with the lowest nDCG@10, worst first.

    Of equal values, the question whose best gold document has the lowest rank is worse.

    Args:
        table: of ``metrics.per_question``.
        questions: ``schemas.QUESTIONS``.
        ranking: ``schemas.RANKING``.
        texts: documents' texts by (task, document id); missing texts are shown as empty.
    """
    keys = zip(table["task"].to_pylist(), table["query_id"].to_pylist(), strict=True)
    ndcg = dict(zip(keys, table[MAIN].to_pylist(), strict=True))
    ranked_ids = {key: rows["doc_id"].to_pylist() for key, rows in group_by_question(ranking)}

    def key(row: Mapping[str, str]) -> tuple[str, str]:
        return row["task"], row["query_id"]

    def order(row: dict[str, list[str]]) -> tuple[float, int]:
        doc_ids = ranked_ids.get(key(row), [])  # type: ignore[arg-type]
        gold = set(row["gold_ids"])
        best = next((position for position, doc_id in enumerate(doc_ids) if doc_id in gold), len(doc_ids) + 1)
        return ndcg[key(row)], -best  # type: ignore[arg-type]

    rows = sorted(questions.select(schemas.QUESTIONS.names).to_pylist(), key=order)[:MAX_FAILURES]
    return [_failure(row, ndcg[key(row)], ranked_ids.get(key(row), []), texts) for row in rows]


def _failure(
    row: Mapping[str, list[str]], ndcg: float, ranked_ids: Sequence[str], texts: Mapping[tuple[str, str], str]
) -> Failure:
    task, gold = str(row["task"]), set(row["gold_ids"])
    ranks = {doc_id: rank for rank, doc_id in enumerate(ranked_ids, start=1)}

    def document(doc_id: str) -> FailureDocument:
        text = _cut(texts.get((task, doc_id), ""), DOCUMENT_CHARS)
        return FailureDocument(doc_id, text, ranks.get(doc_id), doc_id in gold)

    best_gold = sorted(gold, key=lambda doc_id: ranks.get(doc_id, len(ranks) + 1))[:MAX_DOCUMENTS]
    return Failure(
        task=task,
        query_id=str(row["query_id"]),
        query=_cut(str(row["query"]), QUERY_CHARS),
        ndcg=ndcg,
        retrieved=[document(doc_id) for doc_id in ranked_ids[:MAX_DOCUMENTS]],
        relevant=[document(doc_id) for doc_id in best_gold],
    )


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[:characters].rstrip() + " …"
