"""Rate limit of an API key."""

import math
import time
from collections.abc import Callable


class RateLimiter:
    """Token bucket for each key holder: at most one minute's requests at once, refilled steadily.

    Args:
        per_minute: requests of one holder; 0 for no limit.
        clock: returns seconds of a monotonic clock.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute, self._clock = per_minute, clock
        self._buckets: dict[str, tuple[float, float]] = {}
        """By holder: requests left, and when that was counted."""

    def take(self, holder: str) -> int:
        """Takes one request out of the holder's bucket.

        Returns:
            0 if the request is allowed; otherwise the seconds until the next one is.
        """
        if not self._per_minute:
            return 0
        now = self._clock()
        left, counted_at = self._buckets.get(holder, (float(self._per_minute), now))
        left = min(self._per_minute, left + (now - counted_at) * self._per_minute / 60)
        allowed = left >= 1
        self._buckets[holder] = (left - allowed, now)
        return 0 if allowed else max(1, math.ceil((1 - left) * 60 / self._per_minute))
