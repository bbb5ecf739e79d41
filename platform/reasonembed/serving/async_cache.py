"""Things that are slow to open, such as models and indexes."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")
SIZE = 2  # what answers now, and what is about to


class AsyncCache(Generic[K, T]):
    """The last few that were asked for. Each is opened once, in a thread, however many ask for it meanwhile.

    Args:
        open_one: of a key. What it raises everybody gets who waits for that key; who comes later makes it try again.
    """

    def __init__(self, open_one: Callable[[K], T]) -> None:
        self._open = open_one
        self._tasks: dict[K, asyncio.Task[T]] = {}

    async def get(self, key: K) -> T:
        task = self._tasks.pop(key, None)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = asyncio.create_task(asyncio.to_thread(self._open, key))
        self._tasks[key] = task
        while len(self._tasks) > SIZE:
            del self._tasks[next(iter(self._tasks))]
        # Shielded: one request that gives up must not take the model from the others.
        return await asyncio.shield(task)
