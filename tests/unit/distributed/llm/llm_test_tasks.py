"""A small LLM task for the tests of engines and of their adapters."""

from typing import Any, ClassVar

import pyarrow as pa

from reasonembed.llm.prompt import Prompt
from reasonembed.llm.protocol import Reply, Request, TokenEstimate
from reasonembed.llm.task_rows import TaskRows

SCHEMA = pa.schema(
    [("id", pa.string()), ("word", pa.string()), ("reject_reason", pa.string()), ("raw_answer", pa.string())]
)


class WordReply(Reply):
    word: str


class WordTask:
    """Asks for a word about a text; a row without a text cannot be asked."""

    name: ClassVar = "word"
    id_column: ClassVar = "id"
    prompt: ClassVar = Prompt("Answer.", "<text>{{ text }}</text>", ("text",))
    reply: ClassVar = WordReply
    schema: ClassVar = SCHEMA
    tokens: ClassVar = TokenEstimate(1, 1)

    def request(self, row: dict[str, Any]) -> Request:
        if not row["text"]:
            raise ValueError("no text")
        return Request(self.name, "task", {"text": row["text"]})

    def result(self, row, parsed, engine) -> dict[str, Any]:
        return {"id": row["id"], "word": parsed.value.word if parsed.value else None}


def word_rows() -> TaskRows:
    """Returns the task as workers get it."""
    return TaskRows(WordTask, "the-model", None)


class RecordingUsage:
    """Poses as the handle of the counting actor and records the counts that it gets."""

    def __init__(self) -> None:
        self.counts: list[tuple[int, ...]] = []

    @property
    def add(self) -> "RecordingUsage":
        return self

    def remote(self, *counts: int) -> None:
        self.counts.append(counts)
