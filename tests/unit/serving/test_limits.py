import pytest

from reasonembed.config import Serve
from reasonembed.serving.limits import MAX_CHARS, check_search, check_texts, check_vectors
from reasonembed.serving.refusals import RequestRefused


def refused(function, *arguments):
    """Returns the status with which a request is refused; None if it is accepted."""
    try:
        function(*arguments)
    except RequestRefused as refusal:
        return refusal.status
    return None


def test_number_and_size_of_texts_are_limited():
    settings = Serve(texts=2)
    assert refused(check_texts, ["a", "x" * MAX_CHARS], settings) is None
    assert refused(check_texts, [], settings) == 422
    assert refused(check_texts, ["a"] * 3, settings) == 422
    assert refused(check_texts, [" \n"], settings) == 422
    assert refused(check_texts, ["x" * (MAX_CHARS + 1)], settings) == 413
    assert refused(check_texts, ["a\n\ud800"], settings) == 422


def test_questions_times_top_k_are_limited():
    settings = Serve(hits=100)
    assert refused(check_search, ["a"] * 10, 10, False, settings) is None
    assert refused(check_search, ["a"] * 10, 11, False, settings) == 422
    assert refused(check_search, ["a"], 101, False, settings) == 422


def test_characters_of_all_questions_by_bm25_are_limited():
    settings = Serve(bm25_chars=10)
    assert refused(check_search, ["12345", "67890"], 1, True, settings) is None
    assert refused(check_search, ["12345", "678901"], 1, True, settings) == 413
    assert refused(check_search, ["12345", "678901"], 1, False, settings) is None


def test_vectors_must_fit_into_a_response():
    settings = Serve(response_bytes=100_000)
    assert refused(check_vectors, 10, 400, False, settings) is None
    assert refused(check_vectors, 10, 401, False, settings) == 413
    assert refused(check_vectors, 10, 1800, True, settings) is None
    assert refused(check_vectors, 10, 1900, True, settings) == 413


@pytest.mark.parametrize(("texts", "dimension"), [(Serve().texts, 4096)])
def test_the_default_limit_admits_as_many_vectors_as_texts(texts, dimension):
    assert refused(check_vectors, texts, dimension, False, Serve()) is None
