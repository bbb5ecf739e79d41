"""Workers of the stages on CPUs, in processes that outlive a stage.

Ray keeps idle processes for the tasks to come, and there torch and transformers are imported already: in an actor,
which has a process of its own, that takes longer than a small stage's work. But nobody tells such a process that a
stage is over, so a worker and what it has in memory are let go when they have had nothing to do for a while.
"""

import threading
import uuid
from collections.abc import Callable

import pyarrow as pa

IDLE_SECONDS = 30.0
Worker = Callable[[pa.Table], pa.Table]


class _Kept:
    """The worker of the stage that this process was last asked to work for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key = ""
        self._worker: Worker | None = None
        self._timer: threading.Timer | None = None

    def work(self, key: str, make_worker: Callable[[], Worker], batch: pa.Table) -> pa.Table:
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            if self._worker is None or self._key != key:
                self._worker = None  # before the next one needs the memory
                self._key, self._worker = key, make_worker()
            try:
                return self._worker(batch)
            finally:
                self._timer = threading.Timer(IDLE_SECONDS, self._let_go)
                self._timer.daemon = True
                self._timer.start()

    def _let_go(self) -> None:
        with self._lock:
            if self._timer is threading.current_thread():
                self._worker = None


_kept = _Kept()


class CachedWorker:
    """A function for tasks: in each process the worker is made once and used for all the blocks of a stage."""

    def __init__(self, make_worker: Callable[[], Worker]) -> None:
        self._key, self._make_worker = uuid.uuid4().hex, make_worker
        self.__name__ = "warm"  # Ray Data asks for it, as functions have one

    def __call__(self, batch: pa.Table) -> pa.Table:
        return _kept.work(self._key, self._make_worker, batch)
