"""The forms that answers must have, and the strict parser: what is not exactly an answer becomes a reject."""

import json
import re
from typing import Any, Literal

from pydantic import Field, ValidationError

from reasonembed.llm.protocol import Answer, Parsed, Reply

THOUGHT = re.compile(r"\A\s*<think>.*?</think>\s*", re.DOTALL)
FENCE = re.compile(r"\A\s*```(?:json)?\s*\n(.*)\n\s*```\s*\Z", re.DOTALL)
RAW_CHARS = 20_000  # of a rejected answer, kept for whoever looks into it


class Belonging(Reply):
    belongs: Literal["Yes", "No"]


class GeneratedQuery(Reply):
    query: str = Field(min_length=1)


class ReasoningQuery(Reply):
    reasoning_query: str = Field(min_length=1)


class Grading(Reply):
    """The three steps of annotation, in their order: what the query wants, what the document gives, the grade."""

    query_analysis: str
    document_analysis: str
    grade: int = Field(ge=1, le=5)

    @property
    def rationale(self) -> str:
        return "\n".join(part for part in (self.query_analysis, self.document_analysis) if part)


def json_schema(form: type[Reply], max_text_chars: int) -> str:
    """The form as JSON schema for constrained decoding; no text in it may run past ``max_text_chars``."""
    schema = form.model_json_schema()
    properties: dict[str, Any] = {}
    for name, field in schema["properties"].items():
        kept = {key: value for key, value in field.items() if key not in ("title", "description")}
        if kept.get("type") == "string" and "enum" not in kept:
            kept["maxLength"] = max_text_chars
        properties[name] = kept
    return json.dumps(
        {"type": "object", "properties": properties, "required": schema["required"], "additionalProperties": False}
    )


def parse(answer: Answer, form: type[Reply]) -> Parsed:
    """Check an answer against its form. A leading thought and an enclosing code fence are taken off, nothing else."""
    if answer.text is None:
        return Parsed(reject_reason=answer.error or "no answer", retriable=not answer.lasting)
    text = THOUGHT.sub("", answer.text, count=1)
    if fenced := FENCE.match(text):
        text = fenced[1]
    try:
        return Parsed(value=form.model_validate_json(text), score=answer.score)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "answer"
        reason = f"invalid answer: {where}: {first['type']}"
        return Parsed(reject_reason=reason, raw_answer=encodable(answer.text)[:RAW_CHARS], retriable=True)


def encodable(text: str) -> str:
    """The text without lone surrogates, which no table can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")
