"""Only an answer in exactly the form of its stage is accepted; anything else becomes a rejected row with a reason."""

import json
import time

import jsonschema
import pytest

from reasonembed.llm.parsing import RAW_ANSWER_CHARS, encodable, json_schema, parse
from reasonembed.llm.protocol import Answer
from reasonembed.remixer.annotate import Grading
from reasonembed.remixer.clean import Belonging
from reasonembed.remixer.generate import GeneratedQuery

VALID = {"query_analysis": "a", "document_analysis": "b", "grade": 3}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "grade 5",
        "<score>5</score>",
        json.dumps(VALID | {"grade": 6}),
        json.dumps(VALID | {"grade": "3"}),
        json.dumps(VALID | {"grade": 3.5}),
        json.dumps(VALID | {"extra": 1}),
        json.dumps({"grade": 3}),
        json.dumps(VALID) + " and so on",
        json.dumps(VALID)[:-3],
        '{"query_analysis": "\\ud800", "document_analysis": "b", "grade": 3}',
        "[]",
        "null",
        f"```json\n{json.dumps(VALID)}",
        f"```json\n{json.dumps(VALID)}\n``` That is my answer.",
        f"```yaml\n{json.dumps(VALID)}\n```",
        f"<think>The thought never ends. {json.dumps(VALID)}",
    ],
)
def test_an_answer_in_another_form_is_rejected_with_its_text(text):
    parsed = parse(Answer(text=text), Grading)
    assert parsed.value is None
    assert parsed.reject_reason.startswith("invalid answer")
    assert parsed.raw_answer == text
    assert parsed.retriable


def test_the_reason_names_the_field():
    parsed = parse(Answer(text=json.dumps(VALID | {"grade": 6})), Grading)
    assert parsed.reject_reason == "invalid answer: grade: less_than_equal"


def test_a_rejected_answer_is_shortened():
    assert parse(Answer(text="x" * 100_000), Grading).raw_answer == "x" * RAW_ANSWER_CHARS


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(VALID),
        f"```json\n{json.dumps(VALID)}\n```",
        f"```\n{json.dumps(VALID)}\n```\n",
        f"```json \r\n{json.dumps(VALID, indent=1)}\r\n ```",
        f"<think>It says {{grade: 5}}.</think>\n\n{json.dumps(VALID)}",
        f"\n<think>Fenced.</think>```json\n{json.dumps(VALID)}\n```",
    ],
)
def test_a_thought_and_a_fence_are_removed(text):
    parsed = parse(Answer(text=text, score=0.4), Grading)
    assert parsed.value.grade == 3
    assert parsed.value.rationale == "a\nb"
    assert parsed.score == 0.4


@pytest.mark.parametrize("count", [4_000, 200_000])
@pytest.mark.parametrize("before", ["```", "```json\n{", "<think>\n</think>```json\n"])
@pytest.mark.parametrize("after", ["", "```", "\n```\nx"])
def test_an_answer_of_line_breaks_takes_no_time(count, before, after):
    started = time.perf_counter()
    parsed = parse(Answer(text=before + "\n" * count + after), Grading)
    assert time.perf_counter() - started < 0.5
    assert parsed.reject_reason.startswith("invalid answer")


def test_an_error_of_the_engine_is_the_reason():
    parsed = parse(Answer(error="timeout"), Grading)
    assert (parsed.value, parsed.reject_reason, parsed.retriable) == (None, "timeout", True)
    permanent = parse(Answer(error="too long", permanent=True), Grading)
    assert (permanent.reject_reason, permanent.retriable) == ("too long", False)


@pytest.mark.parametrize("word", ["yes", "Yes.", "YES", "Maybe", ""])
def test_only_an_exact_yes_or_no_counts(word):
    assert parse(Answer(text=json.dumps({"belongs": word})), Belonging).value is None
    for exact in ("Yes", "No"):
        assert parse(Answer(text=json.dumps({"belongs": exact})), Belonging).value.belongs == exact


def test_the_schema_accepts_what_the_parser_accepts():
    schema = json.loads(json_schema(Grading, 20))
    jsonschema.validate(VALID, schema)
    assert list(schema["properties"]) == ["query_analysis", "document_analysis", "grade"]
    for invalid in (VALID | {"grade": 0}, VALID | {"query_analysis": "x" * 21}, VALID | {"more": 1}, {"grade": 3}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(invalid, schema)
    assert json.loads(json_schema(GeneratedQuery, 9))["properties"]["query"] == {
        "minLength": 1,
        "maxLength": 9,
        "type": "string",
    }


def test_a_choice_has_no_length_limit():
    assert json.loads(json_schema(Belonging, 2))["properties"]["belongs"] == {"enum": ["Yes", "No"], "type": "string"}


def test_lone_surrogates_are_replaced_in_text_for_tables():
    assert encodable("a\udfffb") == "a?b"
    assert parse(Answer(text="\ud800"), Grading).raw_answer == "?"
