"""The two sampled conditions of a generated query, and their weights (docs/method.md: ReMixer)."""

import random

LENGTH_BANDS = ("<100", "100-200", "200-300", "300-400", "400-500", ">=500")
LENGTH_WEIGHTS = (1, 2, 3, 3, 2, 1)
EDUCATIONS = ("high school", "college", "PhD")
EDUCATION_WEIGHTS = (1, 2, 2)

LENGTH_WORDS = {"<100": "fewer than 100 words", ">=500": "500 words or more"} | {
    band: f"{band.replace('-', ' to ')} words" for band in LENGTH_BANDS[1:-1]
}
EDUCATION_WORDS = {
    "high school": "knows the subject from high school",
    "college": "studies or has studied the subject at college",
    "PhD": "does research in the subject, with a PhD",
}


def sample_conditions(query_id: str, seed: int) -> tuple[str, str]:
    """Returns the length band (in words) and the education of a query; they depend only on its id and the seed."""
    rng = random.Random(f"{seed}/conditions/{query_id}")
    return (
        rng.choices(LENGTH_BANDS, LENGTH_WEIGHTS)[0],
        rng.choices(EDUCATIONS, EDUCATION_WEIGHTS)[0],
    )
