import pytest

from reasonembed.deduplication import NearDuplicateIndex, fold_case

TEXTS = [
    "How do plants turn light into sugar",
    "how do  plants turn light\ninto sugar",
    "How do plants turn light into starch",
    "Why is the sky blue at noon",
    "two words",
    "",
]


def jaccard(a, b):
    return len(a & b) / len(a | b)


def shingles(text):
    words = text.lower().split()
    return {tuple(words[n : n + 3]) for n in range(len(words) - 2)}


def test_equal_texts_differ_in_case_and_white_space_at_most():
    index = NearDuplicateIndex(TEXTS, 1.0)
    assert index.find_equal("HOW do plants turn light into sugar ") == [0, 1]
    assert index.find_equal("How do plants turn light into salt") == []
    assert fold_case(" A\tb ") == "a b"


def test_near_duplicates_reach_the_threshold():
    similarity = jaccard(shingles(TEXTS[0]), shingles(TEXTS[2]))
    assert 0 < similarity < 1
    assert NearDuplicateIndex(TEXTS, similarity).find_near(TEXTS[0]) == [0, 1, 2]
    assert NearDuplicateIndex(TEXTS, similarity + 1e-6).find_near(TEXTS[0]) == [0, 1]
    assert NearDuplicateIndex(TEXTS, similarity).find_near("Something else entirely") == []


@pytest.mark.parametrize(("text", "positions"), [("Two  words", [4]), ("two", []), ("", [5]), (" ", [5])])
def test_texts_shorter_than_a_shingle_match_as_a_whole(text, positions):
    assert NearDuplicateIndex(TEXTS, 0.5).find_near(text) == positions
