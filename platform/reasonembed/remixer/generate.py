"""Stage 1: which documents become sources, and one query from each (METHOD §1)."""

import random

import pyarrow as pa
import pyarrow.compute as pc

from reasonembed import ids, schemas
from reasonembed.config import Generate
from reasonembed.llm.parsing import GeneratedQuery, parse
from reasonembed.llm.protocol import Engine, Request

DEFAULT_INSTRUCTION = "Given a question, retrieve relevant passages that help answer the question."

# key query_id: the documents that a query is asked for
SOURCES = pa.schema([pa.field("query_id", pa.string()), *schemas.CORPUS])


def select_sources(corpus: pa.Table, judged: pa.Table, config: Generate, seed: int) -> pa.Table:
    """Sample source documents, evenly over the tasks.

    Args:
        corpus: ``schemas.CORPUS``.
        judged: ``schemas.QUESTIONS`` of every benchmark to protect: no gold or excluded document of theirs, nor one
            with the same text, is ever a source.
        config: bounds of length and number.
        seed: of the sample.

    Returns:
        ``SOURCES``, grouped by task.
    """
    protected = {
        (row["task"], doc_id) for row in judged.to_pylist() for doc_id in (*row["gold_ids"], *row["excluded_ids"])
    }
    rows = corpus.to_pylist()
    protected_texts = {ids.normalised_text(row["text"]) for row in rows if (row["task"], row["doc_id"]) in protected}
    by_task: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        fits = config.min_chars <= len(row["text"]) <= config.max_chars
        if fits and ids.normalised_text(row["text"]) not in protected_texts:
            by_task.setdefault(row["task"], []).append(row)
    chosen: list[dict[str, str]] = []
    left = config.max_queries
    # Smallest task first: what it cannot use of its share goes to the others.
    for tasks_left, task in zip(
        range(len(by_task), 0, -1), sorted(by_task, key=lambda t: (len(by_task[t]), t)), strict=True
    ):
        candidates = sorted(by_task[task], key=lambda row: row["doc_id"])
        share = min(len(candidates), left // tasks_left)
        chosen += random.Random(f"{seed}/{task}").sample(candidates, share)
        left -= share
    return pa.Table.from_pylist(
        [{"query_id": ids.query_id(row["task"], row["doc_id"]), **row} for row in chosen], schema=SOURCES
    )


def generate_queries(sources: pa.Table, engine: Engine, instructions: dict[str, str]) -> pa.Table:
    """``SOURCES`` to ``schemas.QUERIES``, rejected rows included."""
    rows = sources.to_pylist()
    answers = engine.answer(
        [Request("generate", row["task"], {"title": row["title"], "document": row["text"]}) for row in rows]
    )
    out = []
    for row, answer in zip(rows, answers, strict=True):
        parsed = parse(answer, GeneratedQuery)
        out.append(
            {
                "query_id": row["query_id"],
                "task": row["task"],
                "instruction": instructions.get(row["task"], DEFAULT_INSTRUCTION),
                "query": parsed.value.query if parsed.value else None,
                "source_doc_id": row["doc_id"],
                "length_band": None,
                "education": None,
                "generator": engine.name,
                "reject_reason": parsed.reject_reason,
                "raw_answer": parsed.raw_answer,
            }
        )
    return pa.Table.from_pylist(out, schema=schemas.QUERIES)


def usable_queries(queries: pa.Table) -> pa.Table:
    """Accepted queries, the first of every equal text of a task, in an order that does not depend on the run."""
    accepted = queries.filter(pc.is_null(queries["reject_reason"])).sort_by(
        [("task", "ascending"), ("query_id", "ascending")]
    )
    seen: set[tuple[str, str]] = set()
    keep = []
    for task, query in zip(accepted["task"].to_pylist(), accepted["query"].to_pylist(), strict=True):
        key = (task, ids.normalised_text(query).lower())
        keep.append(key not in seen)
        seen.add(key)
    return accepted.filter(pa.array(keep, pa.bool_()))
