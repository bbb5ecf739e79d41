import pickle

import pytest

from reasonembed.errors import JobFailed
from reasonembed.llm.circuit_breaker import CONSECUTIVE_FAILURES, CircuitBreaker, EngineUnavailable, engine_unavailable


def test_failures_in_a_row_open_the_breaker():
    breaker = CircuitBreaker("the server")
    for _ in range(CONSECUTIVE_FAILURES - 1):
        breaker.record_failure("HTTP 500")
    breaker.check()
    with pytest.raises(EngineUnavailable, match=r"^the server: 20 requests in a row have failed, .* with HTTP 503; "):
        breaker.record_failure("HTTP 503")
    with pytest.raises(EngineUnavailable, match="20 requests in a row"):
        breaker.check()


def test_a_success_between_failures_keeps_the_breaker_closed():
    breaker = CircuitBreaker("the server", limit=3)
    for _ in range(10):
        breaker.record_failure("HTTP 500")
        breaker.record_failure("HTTP 500")
        breaker.record_response()
    breaker.check()


def test_an_open_breaker_reports_the_first_problem():
    breaker = CircuitBreaker("the server", limit=1)
    error = breaker.open("the key is refused")
    assert "the key is refused" in str(error)
    assert breaker.open("no such model") is breaker.error is error
    with pytest.raises(EngineUnavailable, match="the key is refused"):
        breaker.record_failure("HTTP 500")


def test_the_error_is_one_line_that_survives_the_way_from_a_worker():
    error = pickle.loads(pickle.dumps(engine_unavailable("the server", "it is gone")))
    assert isinstance(error, EngineUnavailable)
    assert isinstance(error, JobFailed)
    assert error.exit_code == 1
    assert "\n" not in str(error)
    assert str(error).startswith("the server: it is gone; ")
    assert "the same command continues from here" in str(error)
