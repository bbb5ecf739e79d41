"""Who may ask, and how often."""

import hmac
import math
import os
import time
from collections.abc import Callable, Mapping
from hashlib import sha256

from reasonembed import storage
from reasonembed.errors import UserError

VARIABLE = "SERVE_API_KEYS"
SHORTEST = 16


class Keys:
    """API keys by the names of their holders. Only hashes are kept."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        self._hashes = {name: sha256(key.encode()).digest() for name, key in keys.items()}

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def holder(self, presented: str) -> str | None:
        """Whose key it is. Every key is compared, in a time that does not depend on where they differ."""
        presented_hash, found = sha256(presented.encode()).digest(), None
        for name, kept in self._hashes.items():
            if hmac.compare_digest(kept, presented_hash):
                found = name
        return found


def read_keys(file: str | None, environment: Mapping[str, str] = os.environ) -> Keys:
    """From ``serve.keys_file``, else from ``SERVE_API_KEYS``; none where neither is set.

    Raises:
        UserError: the file is not there, or a line is not ``name: key``.
    """
    if file is None:
        place, text = VARIABLE, environment.get(VARIABLE, "")
    else:
        place = file
        try:
            text = storage.read_bytes(file).decode()
        except FileNotFoundError:
            raise UserError(f"serve.keys_file {file} does not exist") from None
    keys: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, key = (part.strip() for part in line.partition(":"))
        if not (name and colon and key):
            raise UserError(f"{place}, line {number}: write `name: key`")
        if len(key) < SHORTEST:
            raise UserError(f"{place}, line {number}: the key of {name!r} is shorter than {SHORTEST} characters")
        if name in keys:
            raise UserError(f"{place}, line {number}: {name!r} has a key already")
        keys[name] = key
    if file is not None and not keys:
        raise UserError(f"serve.keys_file {file} holds no key")
    return Keys(keys)


class RateLimiter:
    """A bucket per holder: full it allows a minute's requests at once, and it fills as the minute goes by.

    Args:
        per_minute: requests; 0 for no limit.
        clock: seconds that only grow.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute, self._clock = per_minute, clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, holder: str) -> int:
        """Take one request; 0, or the seconds until there is one to take."""
        if not self._per_minute:
            return 0
        now = self._clock()
        left, then = self._buckets.get(holder, (float(self._per_minute), now))
        left = min(self._per_minute, left + (now - then) * self._per_minute / 60)
        allowed = left >= 1
        self._buckets[holder] = (left - allowed, now)
        return 0 if allowed else max(1, math.ceil((1 - left) * 60 / self._per_minute))
