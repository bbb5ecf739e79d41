"""Workers that a process uses for all its blocks of a stage."""

import gc
import time
import weakref
from functools import partial

import pyarrow as pa
import pytest
from ray import cloudpickle

from reasonembed.distributed.data import worker_cache
from reasonembed.distributed.data.worker_cache import CachedWorker

WORKERS: list[weakref.ref] = []
BLOCK = pa.table({"x": [1, 2]})


class Multiplier:
    def __init__(self, factor):
        WORKERS.append(weakref.ref(self))
        self.factor = factor

    def __call__(self, block):
        return pa.table({"x": [self.factor * x for x in block["x"].to_pylist()]})


@pytest.fixture(autouse=True)
def _empty_cache(monkeypatch):
    WORKERS.clear()
    monkeypatch.setattr(worker_cache, "_cache", worker_cache._WorkerCache())


def alive():
    gc.collect()
    return [reference() is not None for reference in WORKERS]


def test_a_worker_serves_all_blocks_of_a_stage_and_is_replaced_by_that_of_the_next_stage():
    first, second = CachedWorker(partial(Multiplier, 2)), CachedWorker(partial(Multiplier, 3))
    for _ in range(3):
        block = cloudpickle.loads(cloudpickle.dumps(first))(BLOCK)  # every task gets a copy of its own
        assert block["x"].to_pylist() == [2, 4]
    assert alive() == [True]
    assert second(BLOCK)["x"].to_pylist() == [3, 6]
    assert alive() == [False, True]
    first(BLOCK)
    assert alive() == [False, False, True]


def test_the_old_worker_is_dropped_before_the_new_one_is_built():
    CachedWorker(partial(Multiplier, 2))(BLOCK)
    alive_at_construction = []

    def make_worker():
        alive_at_construction.extend(alive())
        return Multiplier(3)

    CachedWorker(make_worker)(BLOCK)
    assert alive_at_construction == [False]


def test_an_idle_worker_is_dropped(monkeypatch):
    monkeypatch.setattr(worker_cache, "IDLE_SECONDS", 1)
    function = CachedWorker(partial(Multiplier, 2))
    for _ in range(5):
        function(BLOCK)
    assert len(WORKERS) == 1
    deadline = time.time() + 30
    while alive() != [False]:
        assert time.time() < deadline
        time.sleep(0.05)
    assert function(BLOCK)["x"].to_pylist() == [2, 4]


def test_a_worker_survives_a_block_that_fails():
    function = CachedWorker(partial(Multiplier, 2))
    with pytest.raises(KeyError):
        function(pa.table({"y": [1]}))
    assert function(BLOCK)["x"].to_pylist() == [2, 4]
    assert alive() == [True]
