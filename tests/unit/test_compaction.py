import hashlib
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reasonembed.compaction import compact

SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string()), ("reject_reason", pa.string())])
FLAT = pa.schema([("id", pa.string()), ("rank", pa.int32())])


def write(path, rows, schema):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return str(path)


def rows(*numbers, reason=None, text="done"):
    return [{"id": f"k{n}", "text": f"{text} {n}", "reject_reason": reason} for n in numbers]


def order_file(tmp_path, numbers):
    return write(tmp_path / "in.parquet", [{"id": f"k{n}"} for n in numbers], pa.schema([("id", pa.string())]))


def hashes(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.glob("*.parquet"))}


@pytest.mark.parametrize("seed", range(8))
def test_the_same_rows_give_the_same_bytes_however_they_were_written(tmp_path, seed):
    rng = random.Random(seed)
    numbers = list(range(300))
    rng.shuffle(numbers)
    order = order_file(tmp_path, numbers)
    for run in ("a", "b"):
        left = rows(*range(300))
        rng.shuffle(left)
        files = []
        while left:
            size = rng.randint(1, 60)
            files.append(write(tmp_path / run / f"{rng.random()}.parquet", left[:size], SCHEMA))
            left = left[size:]
        missing = compact(files, [order], "id", SCHEMA, str(tmp_path / f"out-{run}"), file_bytes=1)
        assert missing == 0
    first, second = hashes(tmp_path / "out-a"), hashes(tmp_path / "out-b")
    assert first == second
    table = pa.concat_tables(pq.read_table(p) for p in sorted((tmp_path / "out-a").glob("*.parquet")))
    assert table["id"].to_pylist() == [f"k{n}" for n in numbers]


def test_an_accepted_answer_stands_before_a_rejected_one_and_the_latest_of_rejected_ones_stays(tmp_path):
    order = order_file(tmp_path, [1, 2, 3, 4])
    files = [
        write(tmp_path / "0.parquet", rows(1) + rows(2, 3, reason="bad", text="first"), SCHEMA),
        write(tmp_path / "1.parquet", rows(2, text="second") + rows(3, reason="worse", text="second"), SCHEMA),
        write(tmp_path / "2.parquet", rows(1, text="twice") + rows(9), SCHEMA),
    ]
    missing = compact(files, [order], "id", SCHEMA, str(tmp_path / "out"))
    table = pq.read_table(tmp_path / "out" / "part-00000.parquet")
    assert missing == 1
    assert table["text"].to_pylist() == ["twice 1", "second 2", "second 3"]
    assert table["reject_reason"].to_pylist() == [None, None, "worse"]


def test_many_rows_of_one_stay_together_in_their_order(tmp_path):
    order = order_file(tmp_path, [2, 1])
    pairs = [{"id": f"k{n}", "rank": rank} for n in (1, 2) for rank in (3, 1, 2)]
    files = [write(tmp_path / f"{n}.parquet", pairs[n::2], FLAT) for n in range(2)]
    assert compact(files, [order], "id", FLAT, str(tmp_path / "out"), then_by="rank") == 0
    table = pq.read_table(tmp_path / "out" / "part-00000.parquet").to_pylist()
    assert [(r["id"], r["rank"]) for r in table] == [("k2", 1), ("k2", 2), ("k2", 3), ("k1", 1), ("k1", 2), ("k1", 3)]


def test_files_are_closed_when_they_are_large_enough(tmp_path, monkeypatch):
    monkeypatch.setattr("reasonembed.compaction.ROWS_AT_A_TIME", 10)
    order = order_file(tmp_path, range(35))
    files = [write(tmp_path / "0.parquet", rows(*range(35)), SCHEMA)]
    compact(files, [order], "id", SCHEMA, str(tmp_path / "out"), file_bytes=1)
    assert sorted(hashes(tmp_path / "out")) == [f"part-0000{n}.parquet" for n in range(4)]


def test_nothing_at_all_is_an_empty_table(tmp_path):
    order = order_file(tmp_path, [1])
    assert compact([], [order], "id", SCHEMA, str(tmp_path / "out")) == 1
    assert pq.read_table(tmp_path / "out" / "part-00000.parquet").num_rows == 0
