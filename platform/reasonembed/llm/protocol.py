"""The interface between LLM stages and engines.

A stage turns each input row into a request, an engine turns the request into an answer, and the stage turns the answer
into an output row. An answer is a JSON object in the form of the stage's ``Reply`` model, whichever engine wrote it. An
engine never raises for a single bad request: it returns an answer with an ``error``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from reasonembed.llm.prompt import Prompt


@dataclass(frozen=True)
class Request:
    """One question to an engine: the stage, the row's task (domain), and the fields of the prompt."""

    stage: str
    task: str
    fields: Mapping[str, str]


@dataclass(frozen=True)
class Answer:
    """An engine's answer: ``text``, or the ``error`` that prevented one."""

    text: str | None = None
    error: str | None = None
    permanent: bool = False
    """Of an error: the same request would fail again."""
    score: float | None = None
    """Relevance in [0, 1], finer than a grade, from engines that report probabilities."""
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float | None = None
    """Time spent on this request, from engines that handle one request at a time."""


class LocalEngine(Protocol):
    """An engine that runs inside the worker's process."""

    name: str

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """Returns one answer per request, in order."""
        ...


class Reply(BaseModel):
    """Base class of the form that a stage's answers must have; anything else is rejected."""

    model_config = ConfigDict(extra="forbid", strict=True, str_strip_whitespace=True)


@dataclass(frozen=True)
class Parsed:
    """A valid reply, or the reason for its rejection with the raw answer."""

    value: Any = None
    reject_reason: str | None = None
    raw_answer: str | None = None
    score: float | None = None
    retriable: bool = False
    """Another attempt may give a valid answer."""


@dataclass(frozen=True)
class TokenEstimate:
    """Typical tokens per call, for cost estimates before anything was measured."""

    prompt: int
    """Of the prompt without the row's own text."""
    answer: int


class LlmTask(Protocol):
    """What an LLM stage asks: pure functions between rows, requests and replies, the same for every engine.

    ``name`` is the name of the stage and of its configuration section.
    """

    name: ClassVar[str]
    id_column: ClassVar[str]
    prompt: ClassVar[Prompt]
    reply: ClassVar[type[Reply]]
    schema: ClassVar[pa.Schema]
    tokens: ClassVar[TokenEstimate]

    def request(self, row: Mapping[str, Any]) -> Request:
        """Returns the request for an input row.

        Raises:
            ValueError: no request can be made of the row; it is rejected with this reason.
        """
        ...

    def result(self, row: Mapping[str, Any], parsed: Parsed, engine: str) -> dict[str, Any]:
        """Returns the output row of ``schema`` without ``reject_reason`` and ``raw_answer``, which the caller adds."""
        ...
