"""The expected grade: the mean of the grades 1 to 5 under the model's own probabilities at the grade's token."""

import math
import re
from collections.abc import Mapping, Sequence

GRADES = "12345"
# Some servers report tokens as the vocabulary spells them: Ġ and ▁ are a space, Ċ a newline, ĉ a tab, č a return.
WHITE_SPACE = re.compile(r"[\sĠ▁Ċĉč]*+")
GRADE_KEY = re.compile(rf'"grade"{WHITE_SPACE.pattern}:{WHITE_SPACE.pattern}')
# The digit is the whole number: in "45" and "4.5" it is not.
GRADE = re.compile(rf"[{GRADES}](?={WHITE_SPACE.pattern}(?:[}},]|\Z))")


def expected_score(tokens: Sequence[tuple[str, Mapping[str, float]]]) -> float | None:
    """Returns the expected grade E as (E - 1) / 4, in [0, 1]; None where the grade cannot be located in the answer.

    E = sum of g * p(g) / sum of p(g) over the grades g, where p(g) is the probability, among the likeliest tokens at
    the position of the answer's grade, of those that hold the digit g there. A token may hold more than the digit:
    ``4}``, ``": 4``. A token that differs before the digit does not count, except in leading white space.

    Args:
        tokens: of the answer, in order: the token's text, and log-probabilities by text of the likeliest tokens there.
    """
    position = _grade_position("".join(text for text, _ in tokens))
    if position is None:
        return None
    start = 0
    for text, likeliest in tokens:
        if position < start + len(text):
            return _expectation(_without_leading_space(text[: position - start]), likeliest)
        start += len(text)
    raise AssertionError("the position lies within the texts of the tokens")


def _grade_position(answer: str) -> int | None:
    """Returns the position of the digit that is the value of the last key "grade", or that is the whole answer."""
    keys = list(GRADE_KEY.finditer(answer))
    position = keys[-1].end() if keys else len(answer) - len(_without_leading_space(answer))
    grade = GRADE.match(answer, position)
    if grade and (keys or not _without_leading_space(answer[grade.end() :])):
        return position
    return None


def _expectation(prefix: str, likeliest: Mapping[str, float]) -> float | None:
    """Returns the scaled mean of the grades that follow the prefix in the likeliest tokens; None without any."""
    weights = dict.fromkeys(GRADES, 0.0)
    for token, logprob in likeliest.items():
        text = _without_leading_space(token)
        grade = GRADE.match(text, len(prefix)) if text.startswith(prefix) else None
        if grade and not math.isnan(logprob):
            weights[grade[0]] += math.exp(min(logprob, 0.0))
    total = sum(weights.values())
    if total <= 0:
        return None
    expected = sum(int(grade) * weight for grade, weight in weights.items()) / total
    return round((expected - 1) / 4, 6)


def _without_leading_space(text: str) -> str:
    return WHITE_SPACE.sub("", text, count=1)
