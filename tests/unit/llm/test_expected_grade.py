"""The expected grade is read at the token that holds the answer's grade, and nowhere else."""

from math import inf, log, nan

import pytest

from reasonembed.llm.expected_grade import expected_score

HALF_QUARTER = {"4": log(0.5), "3": log(0.25), "5": log(0.2), " x": log(0.05)}
SCORE = round(((4 * 0.5 + 3 * 0.25 + 5 * 0.2) / 0.95 - 1) / 4, 6)  # 0.736842


def answer(*tokens):
    """Tokens with their log-probabilities; a text without any is a token that was certain."""
    return [(token, {token: 0.0}) if isinstance(token, str) else token for token in tokens]


def test_the_digit_alone():
    tokens = answer('{"', "grade", '":', ("4", HALF_QUARTER), "}")
    assert SCORE == 0.736842
    assert expected_score(tokens) == SCORE


def test_a_token_per_character():
    assert expected_score(answer(*'{"grade":', ("4", HALF_QUARTER), "}", "\n")) == SCORE


def test_the_grade_is_what_was_generated_not_the_likeliest():
    assert expected_score(answer('{"grade":', ("1", HALF_QUARTER), "}")) == SCORE


@pytest.mark.parametrize(
    ("chosen", "likeliest"),
    [
        ("4}", {"4}": log(0.5), "3}": log(0.25), "5}": log(0.2), "}": log(0.05)}),
        ("4}", {"4}": log(0.3), "4": log(0.2), "3": log(0.25), "5}": log(0.2), "x": log(0.05)}),
        ("4}", {"4}": log(0.5), "3\n}": log(0.25), "5,": log(0.2), "45}": log(0.05)}),
        ("4", {"4": log(0.5), "3}": log(0.25), "5": log(0.2), "4.5": log(0.05)}),
        (" 4", {" 4": log(0.5), "3": log(0.25), " 5": log(0.2), " 42": log(0.05)}),
        (" 4}", {" 4}": log(0.5), " 3": log(0.25), "5}": log(0.2), "\n": log(0.05)}),
    ],
)
def test_a_digit_merged_with_its_surroundings(chosen, likeliest):
    tokens = answer('{"rationale":"one of 2","grade":', (chosen, likeliest), "" if "}" in chosen else "}")
    assert expected_score(tokens) == SCORE


@pytest.mark.parametrize(
    ("before", "chosen", "likeliest"),
    [
        ('{"grade"', ":4", {":4": log(0.5), ":3": log(0.25), ":5": log(0.2), "4": log(0.9), "=2": log(0.9)}),
        ('{"grade', '": 4', {'": 4': log(0.5), '": 3': log(0.25), '": 5': log(0.2), '":2': log(0.9), "1": log(0.9)}),
        ("{", '"grade": 4}', {'"grade": 4}': log(0.5), '"grade": 3}': log(0.25), '"grade": 5': log(0.2), '"g': 0.0}),
        ('{"r":"2', '","grade":4}', {'","grade":4}': log(0.5), '","grade":3': log(0.25), '","grade":5': log(0.2)}),
    ],
)
def test_alternatives_count_where_they_hold_the_digit_in_the_same_place(before, chosen, likeliest):
    assert expected_score(answer(before, (chosen, likeliest), "}")) == SCORE


@pytest.mark.parametrize(
    "rationale",
    [
        ['"', "3", '"'],
        ['"the document earns ', "3", '"'],
        ['"it says \\"grade\\": ', "3", ', so"'],
        ['"\\"grade\\":', "3", '}"'],
        ['"the key "', "3", '"'],
    ],
)
def test_a_digit_in_the_rationale_is_not_the_grade(rationale):
    merged = ("4}", {"4}": log(0.75), "5}": log(0.25)})
    tokens = answer('{"rationale":', *rationale, ', "grade":', merged)
    assert expected_score(tokens) == round((4.25 - 1) / 4, 6)


def test_a_digit_after_the_grade_is_not_the_grade():
    tokens = answer('{"grade":', ("4", HALF_QUARTER), ',"rationale":"out of ', "5", '"}')
    assert expected_score(tokens) == SCORE


def test_the_last_of_several_grades_counts():
    thought = answer('<think>{"grade": ', ("1", {"1": 0.0}), "}</think>")
    assert expected_score(thought + answer('{"grade": ', ("4", HALF_QUARTER), "}")) == SCORE


@pytest.mark.parametrize(
    "tokens",
    [
        ["{", "\n", "  ", '"grade"', ":", " ", ("4", HALF_QUARTER), "\n", "}"],
        ['{\n  "rationale": "2",\n  "grade":', (" 4", HALF_QUARTER), "\n}\n"],
        ['```json\n{\n\t"grade"', " :\n", ("4", HALF_QUARTER), "\n}\n```"],
    ],
)
def test_pretty_printed_json(tokens):
    assert expected_score(answer(*tokens)) == SCORE


@pytest.mark.parametrize("space", [" ", "Ġ", "▁", "Ċ", "ĠĠ"])
def test_tokens_as_the_vocabulary_spells_them(space):
    likeliest = {f"{space}4": log(0.5), f"{space}3": log(0.25), "5": log(0.2), f"{space}x": log(0.05)}
    assert expected_score(answer("{Ċ", 'Ġ"grade"', ":", (f"{space}4", likeliest), "Ċ}")) == SCORE
    apart = answer("{Ċ", 'Ġ"grade"', "Ġ:", space, ("4", HALF_QUARTER), "Ċ}")
    assert expected_score(apart) == SCORE


@pytest.mark.parametrize(
    "texts",
    [
        [],
        ["x"],
        ["{", '"rationale"', ":", '"', "3", '"', "}"],
        ['{"rationale":"cut off after ', "3"],
        ['{"grade"', ":"],
        ['{"grade":', "null", "}"],
        ['{"grade":', "0", "}"],
        ['{"grade":', "6", "}"],
        ['{"grade":', "4", "5", "}"],
        ['{"grade":', "4", ".5", "}"],
        ['{"grade":', "-", "4", "}"],
        ['{"grade":', "3", '},{"grade":', "null", "}"],
        ["I give it ", "4"],
        ["4", " of ", "5"],
    ],
)
def test_an_answer_without_a_grade_has_no_expectation(texts):
    assert expected_score([(text, {text: 0.0, "4": 0.0}) for text in texts]) is None


def test_an_answer_that_is_only_the_digit():
    assert expected_score([(" 5", {" 5": 0.0})]) == 1.0
    assert expected_score([("\n", {}), ("1", {"1": 0.0}), ("\n", {})]) == 0.0


def test_probabilities_of_zero():
    impossible = {"4": log(0.5), "3": -inf, "5": log(0.5), "2": nan}
    assert expected_score(answer('{"grade":', ("4", impossible), "}")) == round((4.5 - 1) / 4, 6)
    assert expected_score(answer('{"grade":', ("4", {"4": -inf, "3": -inf}), "}")) is None
    assert expected_score(answer('{"grade":', ("4", {"4": nan}), "}")) is None
    assert expected_score(answer('{"grade":', ("4", {}), "}")) is None


def test_a_server_that_reports_positive_log_probabilities_does_no_harm():
    assert expected_score(answer('{"grade":', ("4", {"4": 1e9, "2": 0.0}), "}")) == 0.5


def test_the_same_as_the_last_digit_for_a_tokenizer_of_single_digits():
    """The rule that was used before: the last token that is one of the five digits."""
    for grade in "12345":
        likeliest = {digit: -abs(int(digit) - int(grade)) / 2 for digit in "12345"} | {" 2": -1.0, "}": -3.0}
        weights = {digit: 2.718281828459045 ** likeliest[digit] for digit in "12345"}
        weights["2"] += 2.718281828459045**-1.0
        mean = sum(int(digit) * weight for digit, weight in weights.items()) / sum(weights.values())
        tokens = answer('{"query_analysis": "a 3', '"', ', "grade', '": ', (grade, likeliest), "}")
        assert expected_score(tokens) == pytest.approx((mean - 1) / 4, abs=1e-6)
