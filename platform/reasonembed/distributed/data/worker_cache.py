"""Cache of workers in Ray's worker processes, for small stages on CPUs.

Ray keeps idle processes for later tasks, and those have imported torch and transformers already; a new actor would
spend more time on these imports than a small stage on its work. A process does not learn that a stage has ended, so a
worker is dropped, with what it has in memory, after it has been idle for a while.
"""

import threading
import uuid
from collections.abc import Callable

import pyarrow as pa

IDLE_SECONDS = 30.0
Worker = Callable[[pa.Table], pa.Table]


class _WorkerCache:
    """The worker of the stage that this process served last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key = ""
        self._worker: Worker | None = None
        self._timer: threading.Timer | None = None

    def run(self, key: str, make_worker: Callable[[], Worker], batch: pa.Table) -> pa.Table:
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            if self._worker is None or self._key != key:
                self._worker = None  # before the next one needs the memory
                self._key, self._worker = key, make_worker()
            try:
                return self._worker(batch)
            finally:
                self._timer = threading.Timer(IDLE_SECONDS, self._drop)
                self._timer.daemon = True
                self._timer.start()

    def _drop(self) -> None:
        with self._lock:
            if self._timer is threading.current_thread():
                self._worker = None


_cache = _WorkerCache()


class CachedWorker:
    """A function for Ray tasks: each process builds the worker once and uses it for all its blocks of a stage.

    Args:
        make_worker: builds the worker.
    """

    def __init__(self, make_worker: Callable[[], Worker]) -> None:
        self._key, self._make_worker = uuid.uuid4().hex, make_worker
        self.__name__ = "cached_worker"  # Ray Data reads the name of a function

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Returns the worker's rows for a batch."""
        return _cache.run(self._key, self._make_worker, batch)
