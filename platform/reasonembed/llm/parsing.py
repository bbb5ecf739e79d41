"""Answers to values: strict, so that what is not exactly an answer becomes a reject with its raw text."""

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reasonembed.llm.protocol import Answer, Parsed


class Reply(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, str_strip_whitespace=True)


class GeneratedQuery(Reply):
    query: str = Field(min_length=1)


class ReasoningQuery(Reply):
    reasoning_query: str = Field(min_length=1)


class Judgement(Reply):
    """``score`` in [0, 1] is finer than the grade where the engine gives more than a digit."""

    rationale: str
    grade: int = Field(ge=1, le=5)
    score: float = Field(ge=0, le=1)


def parse(answer: Answer, form: type[Reply]) -> Parsed:
    if answer.text is None:
        return Parsed(reject_reason=answer.error or "no answer")
    try:
        return Parsed(value=form.model_validate_json(answer.text))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "answer"
        return Parsed(reject_reason=f"invalid answer: {where}: {first['type']}", raw_answer=answer.text)
