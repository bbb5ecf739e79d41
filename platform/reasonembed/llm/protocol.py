"""What a stage asks of an engine, and what it gets back.

A request names its kind and carries the fields that a prompt would be made of; an answer is text in the form that the
stage's parser expects (a JSON object), whichever engine wrote it. An engine never raises for one bad request.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Kind = Literal["generate", "rewrite", "annotate"]


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


class Engine(Protocol):
    name: str

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """One answer per request, in order."""
        ...


@dataclass(frozen=True)
class Parsed:
    """A checked answer, or the reason why there is none together with what the engine said."""

    value: Any = None
    reject_reason: str | None = None
    raw_answer: str | None = None
