"""Stage 1: which documents become sources, and one query from each (METHOD: ReMixer)."""

import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from reasonembed import ids, schemas
from reasonembed.config import Generate
from reasonembed.deduplication import NearDuplicateIndex, folded
from reasonembed.llm.protocol import Kind, Parsed, Reply, Request
from reasonembed.llm.replies import GeneratedQuery
from reasonembed.remixer.conditions import EDUCATION_WORDS, LENGTH_WORDS, sample_conditions

DEFAULT_INSTRUCTION = "Given a question, retrieve relevant passages that help answer the question."

# key query_id: the documents that a query is asked for
SOURCES = pa.schema([pa.field("query_id", pa.string()), *schemas.CORPUS])


def judged_texts(corpus: pa.Table, questions: pa.Table) -> set[str]:
    """Normalised texts of the gold and excluded documents of a benchmark, out of the benchmark's own corpus."""
    judged = {
        (row["task"], doc_id)
        for row in questions.select(["task", "gold_ids", "excluded_ids"]).to_pylist()
        for doc_id in (*row["gold_ids"], *row["excluded_ids"])
    }
    keys = zip(corpus["task"].to_pylist(), corpus["doc_id"].to_pylist(), corpus["text"].to_pylist(), strict=True)
    return {ids.normalised_text(text) for task, doc_id, text in keys if (task, doc_id) in judged}


def eligible_sources(corpus: pa.Table, protected: set[str], config: Generate) -> pa.Table:
    """The documents that may be sources, each text once.

    Args:
        corpus: ``schemas.CORPUS``.
        protected: of ``judged_texts``, of every benchmark to keep away from.
        config: bounds of length.

    Returns:
        ``SOURCES``, grouped by task.
    """
    taken = set(protected)
    chosen = []
    for row in sorted(corpus.to_pylist(), key=lambda row: (row["task"], row["doc_id"])):
        text = ids.normalised_text(row["text"])
        if config.min_chars <= len(row["text"]) <= config.max_chars and text not in taken:
            taken.add(text)
            chosen.append({"query_id": ids.query_id(row["task"], row["doc_id"]), **row})
    return pa.Table.from_pylist(chosen, schema=SOURCES)


def sample_sources(eligible: pa.Table, config: Generate, seed: int) -> pa.Table:
    """At most ``config.max_queries`` of the eligible documents, evenly over the tasks."""
    by_task: dict[str, list[dict[str, str]]] = {}
    for row in eligible.to_pylist():
        by_task.setdefault(row["task"], []).append(row)
    chosen: list[dict[str, str]] = []
    left = config.max_queries
    # Smallest task first: what it cannot use of its share goes to the others.
    for tasks_left, task in zip(
        range(len(by_task), 0, -1), sorted(by_task, key=lambda t: (len(by_task[t]), t)), strict=True
    ):
        share = min(len(by_task[task]), left // tasks_left)
        chosen += random.Random(f"{seed}/{task}").sample(by_task[task], share)
        left -= share
    return pa.Table.from_pylist(chosen, schema=SOURCES)


class GenerateTask:
    """``SOURCES`` to ``schemas.QUERIES``.

    Args:
        instructions: of retrieval, by task.
        seed: of the sampled conditions; None for an engine that cannot follow conditions.
    """

    kind: ClassVar[Kind] = "generate"
    id_column: ClassVar[str] = "query_id"
    reply: ClassVar[type[Reply]] = GeneratedQuery
    schema: ClassVar[pa.Schema] = schemas.QUERIES

    def __init__(self, instructions: Mapping[str, str], seed: int | None) -> None:
        self._instructions = instructions
        self._seed = seed

    def _conditions(self, row: Mapping[str, Any]) -> tuple[str | None, str | None]:
        return (None, None) if self._seed is None else sample_conditions(row["query_id"], self._seed)

    def request(self, row: Mapping[str, Any]) -> Request:
        band, education = self._conditions(row)
        fields = {
            "title": row["title"],
            "document": row["text"],
            "instruction": self._instructions.get(row["task"], DEFAULT_INSTRUCTION),
            "length": LENGTH_WORDS[band] if band else "any",
            "education": EDUCATION_WORDS[education] if education else "anybody",
        }
        return Request("generate", row["task"], fields)

    def result(self, row: Mapping[str, Any], parsed: Parsed, engine: str) -> dict[str, Any]:
        band, education = self._conditions(row)
        return {
            "query_id": row["query_id"],
            "task": row["task"],
            "instruction": self._instructions.get(row["task"], DEFAULT_INSTRUCTION),
            "query": parsed.value.query if parsed.value else None,
            "source_doc_id": row["doc_id"],
            "length_band": band,
            "education": education,
            "generator": engine,
        }


class QueryFilter:
    """Rejects what must not be trained on among accepted queries: all but the first of equal queries of a task, and
    near-copies of evaluation questions. Called with one table after the other, it remembers what it has seen.

    Args:
        questions: of every protected benchmark.
        near_question: Jaccard similarity of three-word runs from which on a query is a question's near-copy.
    """

    def __init__(self, questions: Sequence[str], near_question: float) -> None:
        self._seen: set[tuple[str, str]] = set()
        self._copies = NearDuplicateIndex(questions, near_question)

    def __call__(self, queries: pa.Table) -> pa.Table:
        reasons: list[str | None] = []
        for row in queries.select(["task", "query", "reject_reason"]).to_pylist():
            reason = row["reject_reason"]
            if reason is None:
                key = (row["task"], folded(row["query"]))
                if key in self._seen:
                    reason = "equal to another query"
                elif self._copies.of(row["query"]):
                    reason = "near-copy of an evaluation question"
                self._seen.add(key)
            reasons.append(reason)
        position = queries.schema.get_field_index("reject_reason")
        return queries.set_column(position, queries.schema.field(position), pa.array(reasons, pa.string()))


def usable_queries(queries: pa.Table) -> pa.Table:
    """The accepted ones."""
    return queries.filter(pc.is_null(queries["reject_reason"]))
