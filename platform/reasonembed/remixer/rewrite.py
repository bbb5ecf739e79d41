"""Stage 1b: reasoning rewrites q' of the queries, which only training uses (RI)."""

from collections.abc import Mapping
from typing import Any, ClassVar

import pyarrow as pa

from reasonembed import schemas
from reasonembed.llm.protocol import Kind, Parsed, Reply, Request
from reasonembed.llm.replies import ReasoningQuery


class RewriteTask:
    """``schemas.QUERIES`` to ``schemas.REWRITES``."""

    kind: ClassVar[Kind] = "rewrite"
    id_column: ClassVar[str] = "query_id"
    reply: ClassVar[type[Reply]] = ReasoningQuery
    schema: ClassVar[pa.Schema] = schemas.REWRITES

    def request(self, row: Mapping[str, Any]) -> Request:
        fields = {name: row[name] for name in ("query", "instruction", "source_doc_id")}
        return Request("rewrite", row["task"], fields)

    def result(self, row: Mapping[str, Any], parsed: Parsed, engine: str) -> dict[str, Any]:
        return {
            "query_id": row["query_id"],
            "reasoning_query": parsed.value.reasoning_query if parsed.value else None,
            "rewriter": engine,
        }
