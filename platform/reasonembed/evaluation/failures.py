"""The questions that a system failed at, with what it found and what was wanted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from reasonembed import schemas
from reasonembed.evaluation.metrics import MAIN
from reasonembed.evaluation.ranking import by_question

SHOWN = 10
TOP = 3
CHARACTERS = 320


@dataclass(frozen=True)
class Document:
    doc_id: str
    text: str
    rank: int | None
    """In the ranking; None for a document that it does not have."""
    relevant: bool


@dataclass(frozen=True)
class Failure:
    task: str
    query_id: str
    query: str
    value: float
    """nDCG@10."""
    retrieved: Sequence[Document]
    wanted: Sequence[Document]


def failed_questions(
    table: pa.Table, questions: pa.Table, ranking: pa.Table, text_of: Mapping[tuple[str, str], str]
) -> list[Failure]:
    """The questions with the lowest nDCG@10, at most ``SHOWN``; of equal ones those whose best gold document is ranked
    lowest come first.

    Args:
        table: of ``metrics.per_question``.
        questions: ``schemas.QUESTIONS``.
        ranking: ``schemas.RANKING``.
        text_of: texts by (task, doc id); may be empty.
    """
    keys = zip(table["task"].to_pylist(), table["query_id"].to_pylist(), strict=True)
    value_of = dict(zip(keys, table[MAIN].to_pylist(), strict=True))
    ranked = {key: rows["doc_id"].to_pylist() for key, rows in by_question(ranking)}

    def key(row: Mapping[str, str]) -> tuple[str, str]:
        return row["task"], row["query_id"]

    def order(row: dict[str, list[str]]) -> tuple[float, int]:
        found = ranked.get(key(row), [])  # type: ignore[arg-type]
        gold = set(row["gold_ids"])
        best = next((place for place, doc_id in enumerate(found) if doc_id in gold), len(found) + 1)
        return value_of[key(row)], -best  # type: ignore[arg-type]

    rows = sorted(questions.select(schemas.QUESTIONS.names).to_pylist(), key=order)[:SHOWN]
    return [_failure(row, value_of[key(row)], ranked.get(key(row), []), text_of) for row in rows]


def _failure(
    row: Mapping[str, list[str]], value: float, ranked: Sequence[str], text_of: Mapping[tuple[str, str], str]
) -> Failure:
    task, gold = str(row["task"]), set(row["gold_ids"])
    place = {doc_id: rank for rank, doc_id in enumerate(ranked, start=1)}

    def document(doc_id: str) -> Document:
        return Document(doc_id, _cut(text_of.get((task, doc_id), "")), place.get(doc_id), doc_id in gold)

    return Failure(
        task=task,
        query_id=str(row["query_id"]),
        query=_cut(str(row["query"]), 3 * CHARACTERS),
        value=value,
        retrieved=[document(doc_id) for doc_id in ranked[:TOP]],
        wanted=[document(doc_id) for doc_id in sorted(gold, key=lambda d: place.get(d, len(place) + 1))[:TOP]],
    )


def _cut(text: str, characters: int = CHARACTERS) -> str:
    return text if len(text) <= characters else text[:characters].rstrip() + " …"
