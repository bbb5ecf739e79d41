"""Texts of many requests, encoded together."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Batch:
    """What was encoded together, for the metrics."""

    texts: int
    tokens: int
    seconds: float


@dataclass
class _Text:
    ids: Sequence[int]
    done: "asyncio.Future[np.ndarray]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class RequestBatcher:
    """While one batch is encoded the next one gathers: all that has come by then, first come first served, within a
    budget of tokens. An idle model takes a text at once.

    (``serve.batch`` makes up its batches before the model is free, by a timer: under load they hold what comes within
    the timer's few milliseconds and no more, and without load every request waits for it.)

    Args:
        encode: token ids to (texts, dim) vectors; runs in a thread.
        budget: tokens of a batch; a longer text goes alone.
        on_batch: told of every batch.
    """

    def __init__(
        self,
        encode: Callable[[Sequence[Sequence[int]]], np.ndarray],
        budget: int,
        on_batch: Callable[[Batch], None] = lambda batch: None,
    ) -> None:
        self._encode, self._budget, self._on_batch = encode, budget, on_batch
        self._queue: deque[_Text] = deque()
        self._work: asyncio.Task[None] | None = None
        self._started: float | None = None

    @property
    def busy_seconds(self) -> float:
        """For how long the batch at hand has been encoded; 0 without one."""
        return time.perf_counter() - self._started if self._started is not None else 0.0

    async def encode(self, ids: Sequence[Sequence[int]]) -> np.ndarray:
        """(texts, dim) vectors. A request that is cancelled leaves the queue."""
        texts = [_Text(row) for row in ids]
        self._queue.extend(texts)
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._run())
        return np.stack(await asyncio.gather(*(text.done for text in texts)))

    async def _run(self) -> None:
        while batch := self._next():
            self._started = started = time.perf_counter()
            try:
                vectors = await asyncio.to_thread(self._encode, [text.ids for text in batch])
            except Exception as error:  # noqa: BLE001  whoever waits for the batch is told
                for text in batch:
                    if not text.done.done():
                        text.done.set_exception(error)
                continue
            finally:
                self._started = None
            for text, vector in zip(batch, vectors, strict=True):
                if not text.done.done():
                    text.done.set_result(vector)
            tokens = sum(len(text.ids) for text in batch)
            self._on_batch(Batch(len(batch), tokens, time.perf_counter() - started))

    def _next(self) -> list[_Text]:
        batch: list[_Text] = []
        tokens = 0
        while self._queue and (not batch or tokens + len(self._queue[0].ids) <= self._budget):
            text = self._queue.popleft()
            if not text.done.cancelled():
                batch.append(text)
                tokens += len(text.ids)
        return batch
