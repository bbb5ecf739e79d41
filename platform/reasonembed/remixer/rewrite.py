"""Stage 1b: reasoning rewrites q' of the queries, which only training uses (RI)."""

from collections.abc import Mapping
from typing import Any, ClassVar

import pyarrow as pa

from reasonembed import schemas
from reasonembed.ids import digest
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


def question_rows(questions: pa.Table) -> pa.Table:
    """A benchmark's questions (``schemas.QUESTIONS``) as ``RewriteTask`` takes them; see ``question_id``."""
    return pa.Table.from_pylist(
        [
            {
                "query_id": question_id(row["task"], row["query_id"]),
                "task": row["task"],
                "instruction": row["instruction"],
                "query": row["query"],
                "source_doc_id": "",
            }
            for row in questions.to_pylist()
        ]
    )


def question_id(task: str, query_id: str) -> str:
    """Tasks may share query ids; rows of a stage may not."""
    return digest("question", task, query_id)


def with_rewrites(questions: pa.Table, rewrites: pa.Table) -> pa.Table:
    """The questions with rewritten queries; one that could not be rewritten stays as it is."""
    texts = dict(zip(rewrites["query_id"].to_pylist(), rewrites["reasoning_query"].to_pylist(), strict=True))
    queries = [
        texts.get(question_id(row["task"], row["query_id"])) or row["query"]
        for row in questions.select(["task", "query_id", "query"]).to_pylist()
    ]
    position = questions.schema.get_field_index("query")
    return questions.set_column(position, questions.schema.field(position), pa.array(queries, pa.string()))
