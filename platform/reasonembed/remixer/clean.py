"""Stage 0: which documents belong to their task's subject. Only an exact Yes stays."""

from collections.abc import Mapping
from typing import Any, ClassVar

import pyarrow as pa

from reasonembed import schemas
from reasonembed.llm.protocol import Kind, Parsed, Reply, Request
from reasonembed.llm.replies import Belonging


class CleanTask:
    """``SOURCES`` to ``schemas.CLEANED``.

    Args:
        subjects: what a task is about, by task; its name stands in for what is left out.
    """

    kind: ClassVar[Kind] = "clean"
    id_column: ClassVar[str] = "query_id"
    reply: ClassVar[type[Reply]] = Belonging
    schema: ClassVar[pa.Schema] = schemas.CLEANED

    def __init__(self, subjects: Mapping[str, str]) -> None:
        self._subjects = subjects

    def request(self, row: Mapping[str, Any]) -> Request:
        subject = self._subjects.get(row["task"], row["task"].replace("_", " "))
        return Request("clean", row["task"], {"subject": subject, "document": row["text"]})

    def result(self, row: Mapping[str, Any], parsed: Parsed, engine: str) -> dict[str, Any]:
        return {
            "query_id": row["query_id"],
            "task": row["task"],
            "doc_id": row["doc_id"],
            "belongs": parsed.value.belongs == "Yes" if parsed.value else None,
            "cleaner": engine,
        }
