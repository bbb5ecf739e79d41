"""Encodes the texts of many requests in common batches."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass
class EncodedBatch:
    """Size and duration of one batch, for the metrics."""

    texts: int
    tokens: int
    seconds: float


@dataclass
class _QueuedText:
    ids: Sequence[int]
    vector: "asyncio.Future[np.ndarray]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class RequestBatcher:
    """Collects texts while the model is busy and encodes them in one batch next.

    A batch takes the waiting texts in order of arrival, within a token budget. If the model is idle, a text is encoded
    at once.

    (``serve.batch`` forms its batches by a timer, before the model is free: under load a batch holds only the texts of
    the timer's few milliseconds, and without load every request waits for the timer.)

    Args:
        encode: turns token ids into (texts, dim) vectors; runs in a thread.
        token_budget: tokens of a batch at most; a longer text is a batch of its own.
        on_batch: called after every batch.
    """

    def __init__(
        self,
        encode: Callable[[Sequence[Sequence[int]]], np.ndarray],
        token_budget: int,
        on_batch: Callable[[EncodedBatch], None] = lambda batch: None,
    ) -> None:
        self._encode, self._token_budget, self._on_batch = encode, token_budget, on_batch
        self._queue: deque[_QueuedText] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._batch_started: float | None = None

    @property
    def busy_seconds(self) -> float:
        """Seconds since the current batch was started; 0 if the model is idle."""
        return time.perf_counter() - self._batch_started if self._batch_started is not None else 0.0

    async def encode(self, ids: Sequence[Sequence[int]]) -> np.ndarray:
        """Returns (texts, dim) vectors. The texts of a cancelled request are removed from the queue.

        Args:
            ids: token ids of each text.
        """
        texts = [_QueuedText(row) for row in ids]
        self._queue.extend(texts)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._run())
        return np.stack(await asyncio.gather(*(text.vector for text in texts)))

    async def _run(self) -> None:
        while batch := self._next_batch():
            self._batch_started = started = time.perf_counter()
            try:
                vectors = await asyncio.to_thread(self._encode, [text.ids for text in batch])
            except Exception as error:  # noqa: BLE001  The requests of this batch get the error, whatever it is.
                for text in batch:
                    if not text.vector.done():
                        text.vector.set_exception(error)
                continue
            finally:
                self._batch_started = None
            for text, vector in zip(batch, vectors, strict=True):
                if not text.vector.done():
                    text.vector.set_result(vector)
            tokens = sum(len(text.ids) for text in batch)
            self._on_batch(EncodedBatch(len(batch), tokens, time.perf_counter() - started))

    def _next_batch(self) -> list[_QueuedText]:
        batch: list[_QueuedText] = []
        tokens = 0
        while self._queue and (not batch or tokens + len(self._queue[0].ids) <= self._token_budget):
            text = self._queue.popleft()
            if not text.vector.cancelled():
                batch.append(text)
                tokens += len(text.ids)
        return batch
