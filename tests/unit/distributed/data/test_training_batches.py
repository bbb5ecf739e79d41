"""The stage ``batches`` without a cluster: its functions called one after the other, as Ray calls them."""

import pyarrow as pa
import pytest
from factories import MemoryBatches, training_rows

from reasonembed import schemas, storage
from reasonembed.compaction import compact
from reasonembed.config import Train
from reasonembed.distributed.data.training_batches import (
    HELD_OUT_FILE,
    STEPS_FILE,
    StreamedBatches,
    _read_steps,
    _write_plan,
    sampling_worker,
)
from reasonembed.redapter.batch_plan import BATCHES, held_out_ids, to_examples
from reasonembed.remixer.assemble import usable_rows

SEED = 7
SETTINGS = Train(workers=2, batch_size=4, group_size=3, epochs=2.0, dev_queries=3)


@pytest.fixture
def training():
    """Training rows, of which the last is rejected."""
    rows = training_rows(16)
    return [row | {"reject_reason": "no positive" if n == 15 else None} for n, row in enumerate(rows)]


@pytest.fixture
def batches(training, tmp_path):
    """The artifact's files, written from two files of training rows."""
    uri, plan = str(tmp_path / "batches"), str(tmp_path / "plan.parquet")
    files = []
    for number, rows in enumerate((training[:9], training[9:])):
        files.append(str(tmp_path / f"training-{number}.parquet"))
        storage.write_table(pa.Table.from_pylist(rows, schema=schemas.TRAINING), files[-1])
    _write_plan(files, SETTINGS, SEED, uri, plan)
    worker = sampling_worker(plan, uri, SETTINGS, SEED)
    scratch = []
    for number, file in reversed(list(enumerate(files))):  # workers finish in any order
        scratch.append(str(tmp_path / f"scratch-{number}.parquet"))
        storage.write_table(worker(storage.read_table([file], schemas.TRAINING)), scratch[-1])
    missing = compact(scratch, [plan], "row_id", BATCHES, uri, row_group_rows=SETTINGS.batch_size)
    assert missing == 0
    parts = [storage.join(uri, name) for name in storage.list_files(uri) if name.startswith("part-")]
    return StreamedBatches(parts, storage.join(uri, STEPS_FILE), storage.join(uri, HELD_OUT_FILE)), tuple(parts)


@pytest.fixture
def expected(training):
    """The same batches, made in memory."""
    usable = usable_rows(pa.Table.from_pylist(training, schema=schemas.TRAINING)).to_pylist()
    assert len(usable) == 15
    held_out = held_out_ids([(row["task"], row["query_id"]) for row in usable], 3, SEED)
    rest = [row for row in usable if row["query_id"] not in held_out]
    return MemoryBatches(rest, SETTINGS, SEED, [row for row in usable if row["query_id"] in held_out])


def test_steps_and_held_out_rows_equal_those_in_memory(batches, expected):
    streamed, _ = batches
    assert streamed.steps == expected.steps
    assert len(streamed.steps) == 6  # two epochs of 12 rows in batches of 4
    assert sorted(streamed.held_out["query_id"].to_pylist()) == sorted(expected.held_out["query_id"].to_pylist())
    assert streamed.held_out.num_rows == 3


def test_the_ranks_together_read_all_rows_of_a_step_in_order(batches, expected):
    _, files = batches
    in_memory = [[example.query_id for example in step] for step in expected.examples(0)]
    passages = [[example.passages for example in step] for step in expected.examples(0)]
    for number in range(len(expected.steps)):
        ranks = [to_examples(_read_steps(files, rank, 3, pa.table({"step": [number]}))) for rank in range(3)]
        assert [len(examples) for examples in ranks] == [2, 1, 1]
        examples = [example for part in ranks for example in part]
        assert [example.query_id for example in examples] == in_memory[number]
        assert [example.passages for example in examples] == passages[number]
