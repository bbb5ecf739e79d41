"""A small LLM task for the tests of engines and of their adapters."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
    """Poses as the handle of the counting actor and records the calls."""

    def __init__(self) -> None:
        self.counts: list[tuple[int, ...]] = []
        self.outages: list[str] = []

    @property
    def add(self) -> "RemoteMethod":
        return RemoteMethod(lambda *counts: self.counts.append(counts))

    @property
    def report_outage(self) -> "RemoteMethod":
        return RemoteMethod(self.outages.append)

    @property
    def outage(self) -> "RemoteMethod":
        return RemoteMethod(lambda: self.outages[0] if self.outages else None)


class RemoteMethod:
    """Poses as a method of an actor's handle; the result can be awaited, as Ray's references can."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method

    def remote(self, *arguments: Any) -> "Reference":
        return Reference(self._method(*arguments))


@dataclass
class Reference:
    """A result of a ``RemoteMethod``; ``get`` stands for ``ray.get``."""

    value: Any

    def __await__(self) -> Iterator[Any]:
        yield from asyncio.sleep(0).__await__()
        return self.value

    @staticmethod
    def get(reference: "Reference") -> Any:
        return reference.value
