import asyncio
import threading

import numpy as np
import pytest

from reasonembed.serving.request_batcher import RequestBatcher


class BlockingModel:
    """Encodes every text as its length; each batch waits until the test releases it."""

    def __init__(self):
        self.batches, self._releases = [], threading.Semaphore(0)

    def __call__(self, ids):
        self.batches.append([len(row) for row in ids])
        assert self._releases.acquire(timeout=10)
        if any(len(row) == 13 for row in ids):
            raise ValueError("the text of length 13 fails")
        return np.array([[len(row)] for row in ids], np.float32)

    def release(self, batches):
        for _ in range(batches):
            self._releases.release()


def texts(*lengths):
    return [[0] * length for length in lengths]


def test_texts_that_arrive_while_the_model_is_busy_share_a_batch_within_the_budget():
    model, reported = BlockingModel(), []

    async def main():
        batcher = RequestBatcher(model, 10, reported.append)
        first = asyncio.create_task(batcher.encode(texts(3)))
        await asyncio.sleep(0.05)  # an idle model does not wait for more texts
        assert model.batches == [[3]]
        assert batcher.busy_seconds > 0
        others = [asyncio.create_task(batcher.encode(texts(*lengths))) for lengths in [(4, 5), (2,), (12,), (6,)]]
        await asyncio.sleep(0.05)
        model.release(9)
        vectors = [(await task).tolist() for task in [first, *others]]
        assert batcher.busy_seconds == 0
        return vectors

    assert asyncio.run(main()) == [[[3]], [[4], [5]], [[2]], [[12]], [[6]]]
    assert model.batches == [[3], [4, 5], [2], [12], [6]]  # in order of arrival; a text above the budget is alone
    assert [(batch.texts, batch.tokens) for batch in reported] == [(1, 3), (2, 9), (1, 2), (1, 12), (1, 6)]
    assert all(batch.seconds > 0 for batch in reported)


def test_a_failed_batch_fails_its_requests_and_no_others():
    model = BlockingModel()
    model.release(9)

    async def main():
        batcher = RequestBatcher(model, 13)
        return await asyncio.gather(
            batcher.encode(texts(1)), batcher.encode(texts(13)), batcher.encode(texts(2)), return_exceptions=True
        )

    one, failed, two = asyncio.run(main())
    assert (one.tolist(), two.tolist()) == ([[1]], [[2]])
    assert isinstance(failed, ValueError)


def test_a_cancelled_request_leaves_the_queue():
    model = BlockingModel()

    async def main():
        batcher = RequestBatcher(model, 10)
        tasks = [asyncio.create_task(batcher.encode(texts(1)))]
        await asyncio.sleep(0.05)
        tasks += [asyncio.create_task(batcher.encode(texts(length))) for length in (2, 3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.sleep(0)
        model.release(3)
        with pytest.raises(asyncio.CancelledError):
            await tasks[1]
        return [(await tasks[number]).tolist() for number in (0, 2)]

    assert asyncio.run(main()) == [[[1]], [[3]]]
    assert model.batches == [[1], [3]]
