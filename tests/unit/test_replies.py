import json

import jsonschema
import pytest

from reasonembed.llm.expected_grade import expected_score
from reasonembed.llm.protocol import Answer
from reasonembed.llm.replies import Belonging, GeneratedQuery, Grading, encodable, json_schema, parse

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
    ],
)
def test_what_is_not_exactly_an_answer_is_rejected_with_its_text(text):
    parsed = parse(Answer(text=text), Grading)
    assert parsed.value is None
    assert parsed.reject_reason.startswith("invalid answer")
    assert parsed.raw_answer == text
    assert parsed.retriable


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(VALID),
        f"```json\n{json.dumps(VALID)}\n```",
        f"<think>It says {{grade: 5}}.</think>\n\n{json.dumps(VALID)}",
    ],
)
def test_a_thought_and_a_fence_are_taken_off(text):
    parsed = parse(Answer(text=text, score=0.4), Grading)
    assert parsed.value.grade == 3
    assert parsed.value.rationale == "a\nb"
    assert parsed.score == 0.4


def test_an_engines_error_is_the_reason():
    assert parse(Answer(error="timeout"), Grading).retriable
    lasting = parse(Answer(error="too long", lasting=True), Grading)
    assert (lasting.reject_reason, lasting.retriable) == ("too long", False)


@pytest.mark.parametrize("word", ["yes", "Yes.", "YES", "Maybe", ""])
def test_only_an_exact_yes_or_no_counts(word):
    assert parse(Answer(text=json.dumps({"belongs": word})), Belonging).value is None


def test_the_schema_takes_what_the_parser_takes():
    schema = json.loads(json_schema(Grading, 20))
    jsonschema.validate(VALID, schema)
    assert list(schema["properties"]) == ["query_analysis", "document_analysis", "grade"]
    for bad in (VALID | {"grade": 0}, VALID | {"query_analysis": "x" * 21}, VALID | {"more": 1}, {"grade": 3}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema)
    assert json.loads(json_schema(GeneratedQuery, 9))["properties"]["query"] == {
        "minLength": 1,
        "maxLength": 9,
        "type": "string",
    }


def test_text_that_no_table_can_hold():
    assert encodable("a\udfffb") == "a?b"


def test_expected_grade():
    from math import log

    tokens = [
        ('{"grade', {}),
        ('": ', {}),
        ("4", {"4": log(0.5), "3": log(0.25), "5": log(0.2), " x": log(0.05)}),
        ("}", {"}": 0.0}),
    ]
    expected = (4 * 0.5 + 3 * 0.25 + 5 * 0.2) / 0.95
    assert expected_score(tokens) == pytest.approx((expected - 1) / 4, abs=1e-6)
    assert expected_score([("x", {"x": 0.0})]) is None
    assert expected_score([]) is None
    assert expected_score([(" 5", {" 5": 0.0})]) == 1.0
