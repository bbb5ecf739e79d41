"""Stage 1b: reasoning rewrites q' of the queries, which only training uses (RI)."""

import pyarrow as pa

from reasonembed import schemas
from reasonembed.llm.parsing import ReasoningQuery, parse
from reasonembed.llm.protocol import Engine, Request


def rewrite_queries(queries: pa.Table, engine: Engine) -> pa.Table:
    """``schemas.QUERIES`` to ``schemas.REWRITES``, rejected rows included."""
    rows = queries.to_pylist()
    answers = engine.answer(
        [
            Request("rewrite", row["task"], {"query": row["query"], "source_doc_id": row["source_doc_id"]})
            for row in rows
        ]
    )
    out = []
    for row, answer in zip(rows, answers, strict=True):
        parsed = parse(answer, ReasoningQuery)
        out.append(
            {
                "query_id": row["query_id"],
                "reasoning_query": parsed.value.reasoning_query if parsed.value else None,
                "rewriter": engine.name,
                "reject_reason": parsed.reject_reason,
                "raw_answer": parsed.raw_answer,
            }
        )
    return pa.Table.from_pylist(out, schema=schemas.REWRITES)
