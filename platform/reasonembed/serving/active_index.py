"""The index that answers requests, and how another one replaces it without interrupting them."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from reasonembed.artifacts import Artifact
from reasonembed.serving.encoders import ServedModel

RETRY_SECONDS = 60  # A rejected index is tried again after this time, because the cause may have been a lost replica.

logger = logging.getLogger(__name__)


class NoServableIndexError(RuntimeError):
    """None of the indexes that were tried can be served."""


@dataclass(frozen=True)
class IndexVersion:
    """An index and its model. A request uses one version from beginning to end."""

    uri: str
    index: Artifact
    model: ServedModel
    dimensions: tuple[int, ...]
    """Lengths to which its vectors may be cut (Matryoshka)."""

    @property
    def id(self) -> str:
        """Fingerprint of the index, as responses name it."""
        return self.index.fingerprint

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks whose documents it holds."""
        return list(self.index.figures["tasks"])


class ActiveIndex:
    """Holds the version that answers requests, and replaces it by another one after that has been checked.

    Args:
        load_version: loads and checks the index at a URI. If it raises an error, the index is rejected.
        clock: returns seconds of a monotonic clock.
    """

    def __init__(
        self, load_version: Callable[[str], Awaitable[IndexVersion]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._load_version, self._clock = load_version, clock
        self._lock = asyncio.Lock()
        self.version: IndexVersion | None = None
        self._rejections: dict[str, tuple[str, float]] = {}
        """By URI: the reason, and when by the clock."""

    async def activate(self, uri: str) -> bool:
        """Loads an index and lets it answer from now on. If it is rejected, the current version stays.

        Returns:
            Whether the index at this URI is the active one now.
        """
        async with self._lock:
            if self.version is not None and self.version.uri == uri:
                return True
            if uri in self._rejections and self._clock() < self._rejections[uri][1] + RETRY_SECONDS:
                return False
            try:
                version = await self._load_version(uri)
            except Exception as error:  # noqa: BLE001  Whatever is wrong with this index, the current one must go on.
                self._rejections[uri] = (f"{type(error).__name__}: {error}", self._clock())
                logger.error("index %s does not go live: %s", uri, self._rejections[uri][0])
                return False
            self.version = version
            logger.warning("index %s is live", uri)
            return True

    async def activate_first(self, uris: Sequence[str]) -> None:
        """Activates the first of several indexes that is not rejected.

        Args:
            uris: at least one, in order of preference.

        Raises:
            NoServableIndexError: all are rejected; the message has the reason for the first one.
        """
        for uri in uris:
            if await self.activate(uri):
                return
        raise NoServableIndexError(f"no index can be served; {uris[0]}: {self._rejections[uris[0]][0]}")
