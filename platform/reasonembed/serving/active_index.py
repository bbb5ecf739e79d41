"""Which index answers, and how another takes its place while requests are answered."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from reasonembed.artifacts import Artifact
from reasonembed.serving.encoders import ServedModel

PATIENCE_SECONDS = 60  # until what was refused is tried again: a replica may have been lost just then

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Version:
    """An index and its model; what a request began with it ends with."""

    uri: str
    index: Artifact
    model: ServedModel
    dimensions: tuple[int, ...]
    """Lengths to which its vectors may be cut (Matryoshka)."""

    @property
    def id(self) -> str:
        return self.index.fingerprint

    @property
    def tasks(self) -> list[str]:
        return list(self.index.figures["tasks"])


class ActiveIndex:
    """
    Args:
        prepare: opens a version and tries it out. What it raises keeps the version from going live.
        clock: seconds that only grow.
    """

    def __init__(
        self, prepare: Callable[[str], Awaitable[Version]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._prepare, self._clock = prepare, clock
        self._lock = asyncio.Lock()
        self.version: Version | None = None
        self._refused: dict[str, tuple[str, float]] = {}
        """Why, and when, by URI."""

    async def change_to(self, uri: str) -> bool:
        """Prepare a version aside and let it answer from now on; whatever is wrong with it, the one before stays."""
        async with self._lock:
            if self.version is not None and self.version.uri == uri:
                return True
            if uri in self._refused and self._clock() < self._refused[uri][1] + PATIENCE_SECONDS:
                return False
            try:
                version = await self._prepare(uri)
            except Exception as error:  # noqa: BLE001  the version that answers must go on, whatever this one is
                self._refused[uri] = (f"{type(error).__name__}: {error}", self._clock())
                logger.error("index %s does not go live: %s", uri, self._refused[uri][0])
                return False
            self.version = version
            logger.warning("index %s is live", uri)
            return True

    async def start(self, candidates: Sequence[str]) -> None:
        """The first of several that is fit.

        Raises:
            RuntimeError: none is, with the reason why the first one is not.
        """
        for uri in candidates:
            if await self.change_to(uri):
                return
        raise RuntimeError(f"no index can be served; {candidates[0]}: {self._refused[candidates[0]][0]}")
