"""A small cache for objects that are slow to load, such as models and indexes."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")
SIZE = 2  # the active version, and the one that is being loaded to replace it


class AsyncCache(Generic[Key, Value]):
    """Keeps the two most recently used objects. Each is loaded once, in a thread, however many callers wait for it.

    Args:
        load: returns the object of a key. An error is raised to every caller that waits for that key; the next call
            after that loads again.
    """

    def __init__(self, load: Callable[[Key], Value]) -> None:
        self._load = load
        self._tasks: dict[Key, asyncio.Task[Value]] = {}

    async def get(self, key: Key) -> Value:
        """Returns the object of a key, and loads it first if it is not in the cache."""
        task = self._tasks.pop(key, None)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = asyncio.create_task(asyncio.to_thread(self._load, key))
        self._tasks[key] = task
        while len(self._tasks) > SIZE:
            del self._tasks[next(iter(self._tasks))]
        # Shielded: when one caller is cancelled, the others still get the object.
        return await asyncio.shield(task)
