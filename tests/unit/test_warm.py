"""Workers that a process keeps between the blocks of a stage."""

import gc
import time
import weakref
from functools import partial

import pyarrow as pa
import pytest
from ray import cloudpickle

from reasonembed.distributed.data import worker_cache as warm

MADE: list[weakref.ref] = []
BLOCK = pa.table({"x": [1, 2]})


class Doubling:
    def __init__(self, factor):
        MADE.append(weakref.ref(self))
        self.factor = factor

    def __call__(self, block):
        return pa.table({"x": [self.factor * x for x in block["x"].to_pylist()]})


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    MADE.clear()
    monkeypatch.setattr(warm, "_kept", warm._Kept())


def alive():
    gc.collect()
    return [one() is not None for one in MADE]


def test_a_worker_is_made_once_for_all_blocks_of_a_stage_and_gives_way_to_the_next_stages():
    first, second = warm.CachedWorker(partial(Doubling, 2)), warm.CachedWorker(partial(Doubling, 3))
    for _ in range(3):
        block = cloudpickle.loads(cloudpickle.dumps(first))(BLOCK)  # as each task gets it
        assert block["x"].to_pylist() == [2, 4]
    assert alive() == [True]
    assert second(BLOCK)["x"].to_pylist() == [3, 6]
    assert alive() == [False, True]
    first(BLOCK)
    assert alive() == [False, False, True]


def test_it_is_let_go_when_there_is_nothing_to_do(monkeypatch):
    monkeypatch.setattr(warm, "IDLE_SECONDS", 1)
    function = warm.CachedWorker(partial(Doubling, 2))
    for _ in range(5):
        function(BLOCK)
    assert len(MADE) == 1
    end = time.time() + 30
    while alive() != [False]:
        assert time.time() < end
        time.sleep(0.05)
    assert function(BLOCK)["x"].to_pylist() == [2, 4]


def test_after_a_block_that_failed_the_worker_is_still_there():
    function = warm.CachedWorker(partial(Doubling, 2))
    with pytest.raises(KeyError):
        function(pa.table({"y": [1]}))
    assert function(BLOCK)["x"].to_pylist() == [2, 4]
    assert alive() == [True]
