from collections import Counter

import pytest

from reasonembed.remixer.conditions import (
    EDUCATION_WEIGHTS,
    EDUCATION_WORDS,
    EDUCATIONS,
    LENGTH_BANDS,
    LENGTH_WEIGHTS,
    LENGTH_WORDS,
    sample_conditions,
)

SAMPLES = 6000


def test_conditions_follow_their_weights_and_depend_on_the_query_alone():
    conditions = [sample_conditions(str(n), 7) for n in range(SAMPLES)]
    assert conditions[:9] == [sample_conditions(str(n), 7) for n in range(9)]
    assert conditions != [sample_conditions(str(n), 8) for n in range(SAMPLES)]
    bands, educations = Counter(band for band, _ in conditions), Counter(education for _, education in conditions)
    for counts, names, weights in (
        (bands, LENGTH_BANDS, LENGTH_WEIGHTS),
        (educations, EDUCATIONS, EDUCATION_WEIGHTS),
    ):
        for name, weight in zip(names, weights, strict=True):
            assert counts[name] / SAMPLES == pytest.approx(weight / sum(weights), abs=0.03)


def test_every_condition_has_words_for_the_prompt():
    assert LENGTH_WORDS == {
        "<100": "fewer than 100 words",
        "100-200": "100 to 200 words",
        "200-300": "200 to 300 words",
        "300-400": "300 to 400 words",
        "400-500": "400 to 500 words",
        ">=500": "500 words or more",
    }
    assert set(LENGTH_WORDS) == set(LENGTH_BANDS)
    assert set(EDUCATION_WORDS) == set(EDUCATIONS)
