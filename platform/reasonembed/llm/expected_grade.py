"""The expected grade: the mean of the grades 1 to 5 under the model's own probabilities at the grade's token."""

import math
from collections.abc import Mapping, Sequence

GRADES = "12345"


def expected_score(tokens: Sequence[tuple[str, Mapping[str, float]]]) -> float | None:
    """The expected grade, as (E - 1) / 4 in [0, 1]; None where no token of the answer is a grade.

    The grade is the last thing in an answer, so the last token that is one of the five digits counts.

    Args:
        tokens: of the answer, in order: the token's text, and log-probabilities by text of the likeliest tokens there.
    """
    for text, likeliest in reversed(tokens):
        if text.strip() in GRADES and text.strip():
            weights = dict.fromkeys(GRADES, 0.0)
            for token, logprob in likeliest.items():
                if token.strip() in weights:
                    weights[token.strip()] += math.exp(logprob)
            total = sum(weights.values())
            if total <= 0:
                return None
            expected = sum(int(grade) * weight for grade, weight in weights.items()) / total
            return round((expected - 1) / 4, 6)
    return None
