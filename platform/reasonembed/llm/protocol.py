"""What a stage asks of an engine, and what it gets back.

A request names its kind and carries the fields that a prompt is made of; an answer is text in the form that the stage's
parser expects (a JSON object), whichever engine wrote it. An engine never raises for one bad request.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

Kind = Literal["clean", "generate", "rewrite", "annotate"]


@dataclass(frozen=True)
class Request:
    kind: Kind
    task: str
    fields: Mapping[str, str]


@dataclass(frozen=True)
class Answer:
    """Either ``text``, or the ``error`` that kept the engine from answering."""

    text: str | None = None
    error: str | None = None
    lasting: bool = False
    """Of an error: asking again would not help."""
    score: float | None = None
    """In [0, 1], finer than a grade, where the engine has more to say than a digit."""
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float | None = None
    """That the engine worked on it, where it works on one at a time."""


class LocalEngine(Protocol):
    """An engine that lives in the worker's own process."""

    name: str

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """One answer per request, in order."""
        ...


class Reply(BaseModel):
    """The form of an answer; what is not exactly this is no answer."""

    model_config = ConfigDict(extra="forbid", strict=True, str_strip_whitespace=True)


@dataclass(frozen=True)
class Parsed:
    """A checked answer, or the reason why there is none together with what the engine said."""

    value: Any = None
    reject_reason: str | None = None
    raw_answer: str | None = None
    score: float | None = None
    retriable: bool = False
    """Asked again, the engine may well give a valid answer."""


class LlmTask(Protocol):
    """A stage that asks a language model one question a row: pure functions of rows, the same for every engine."""

    kind: ClassVar[Kind]
    id_column: ClassVar[str]
    reply: ClassVar[type[Reply]]
    schema: ClassVar[pa.Schema]

    def request(self, row: Mapping[str, Any]) -> Request:
        """What to ask for an input row.

        Raises:
            ValueError: the row cannot be asked about; it becomes a reject with this reason.
        """
        ...

    def result(self, row: Mapping[str, Any], parsed: Parsed, engine: str) -> dict[str, Any]:
        """The output row of ``schema``, but for ``reject_reason`` and ``raw_answer``, which the caller adds."""
        ...
