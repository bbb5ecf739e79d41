"""JSON schemas for constrained decoding, and the strict parser of answers."""

import json
from typing import Any

from pydantic import ValidationError

from reasonembed.llm.protocol import Answer, Parsed, Reply

THOUGHT_START, THOUGHT_END = "<think>", "</think>"
FENCE = "```"
RAW_ANSWER_CHARS = 20_000
"""Characters of a rejected answer that its row keeps."""


def json_schema(form: type[Reply], max_text_chars: int) -> str:
    """Returns the form as a JSON schema, in which no text may be longer than ``max_text_chars`` characters."""
    schema = form.model_json_schema()
    properties: dict[str, Any] = {}
    for name, field in schema["properties"].items():
        rules = {key: value for key, value in field.items() if key not in ("title", "description")}
        if rules.get("type") == "string" and "enum" not in rules:
            rules["maxLength"] = max_text_chars
        properties[name] = rules
    return json.dumps(
        {"type": "object", "properties": properties, "required": schema["required"], "additionalProperties": False}
    )


def parse(answer: Answer, form: type[Reply]) -> Parsed:
    """Checks an answer against its form. A leading thought and an enclosing code fence are removed, nothing else."""
    if answer.text is None:
        return Parsed(reject_reason=answer.error or "no answer", retriable=not answer.permanent)
    try:
        value = form.model_validate_json(_without_fence(_without_thought(answer.text)))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "answer"
        reason = f"invalid answer: {field}: {first['type']}"
        return Parsed(reject_reason=reason, raw_answer=encodable(answer.text)[:RAW_ANSWER_CHARS], retriable=True)
    return Parsed(value=value, score=answer.score)


def encodable(text: str) -> str:
    """Returns the text with lone surrogates replaced, because no table can hold them."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _without_thought(text: str) -> str:
    start = text.lstrip()
    if not start.startswith(THOUGHT_START):
        return text
    _, end, rest = start.partition(THOUGHT_END)
    return rest.lstrip() if end else text


def _without_fence(text: str) -> str:
    """String methods instead of a regular expression: an answer of thousands of line breaks must not take seconds."""
    lines = text.strip()
    first, newline, rest = lines.partition("\n")
    body, last_newline, last = rest.rpartition("\n")
    is_fenced = newline and last_newline and first.rstrip() in (FENCE, f"{FENCE}json") and last.strip() == FENCE
    return body if is_fenced else text
