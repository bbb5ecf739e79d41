"""The error of an engine that does not work as a whole, and the circuit breaker that detects it.

A single failed request costs one row, which is repeated. When the engine as a whole does not work, every further row
would fail in the same way: nothing more is sent, the job ends, and the rows without an answer are not rejected.
"""

from reasonembed.errors import JobFailed

CONSECUTIVE_FAILURES = 20
"""Failed requests of a worker without a success between them, each after all its retries, that open the breaker."""


class EngineUnavailable(JobFailed):
    """The language model as a whole does not answer: a refused key, a wrong model name, a dead server or engine."""


def engine_unavailable(engine: str, problem: str) -> EngineUnavailable:
    """Returns the error with its one line.

    Args:
        engine: where the language model is, such as its URL.
        problem: what is wrong with it.
    """
    return EngineUnavailable(
        f"{engine}: {problem}; the answers so far are saved: once the language model works again, "
        "the same command continues from here"
    )


class CircuitBreaker:
    """Stops the requests of a worker when too many of them have failed in a row.

    Args:
        engine: where the language model is, for the message.
        limit: consecutive failures that open the breaker.
    """

    def __init__(self, engine: str, limit: int = CONSECUTIVE_FAILURES) -> None:
        self._engine = engine
        self._limit = limit
        self._failures = 0
        self.error: EngineUnavailable | None = None
        """Set while the breaker is open; with the problem that opened it first."""

    def check(self) -> None:
        """Raises the error if the breaker is open, so that nothing more is sent."""
        if self.error is not None:
            raise self.error

    def record_response(self) -> None:
        """Notes that the engine works: it has processed a request."""
        self._failures = 0

    def record_failure(self, reason: str) -> None:
        """Notes a request that has failed after all its retries.

        Raises:
            EngineUnavailable: it is one too many.
        """
        self._failures += 1
        if self._failures >= self._limit:
            raise self.open(f"{self._failures} requests in a row have failed, the last one with {reason}")

    def open(self, problem: str) -> EngineUnavailable:
        """Opens the breaker, unless it is open, and returns the error.

        Args:
            problem: what is wrong with the engine.
        """
        self.error = self.error or engine_unavailable(self._engine, problem)
        return self.error
