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
def test_the_same_rows_become_the_same_bytes(tmp_path, seed):
    rng = random.Random(seed)
    numbers = list(range(300))
    rng.shuffle(numbers)
    order = order_file(tmp_path, numbers)
    for run in ("a", "b"):
        remaining = rows(*range(300))
        rng.shuffle(remaining)
        files = []
        while remaining:
            size = rng.randint(1, 60)
            files.append(write(tmp_path / run / f"{rng.random()}.parquet", remaining[:size], SCHEMA))
            remaining = remaining[size:]
        missing = compact(files, [order], "id", SCHEMA, str(tmp_path / f"out-{run}"), file_bytes=1)
        assert missing == 0
    first, second = hashes(tmp_path / "out-a"), hashes(tmp_path / "out-b")
    assert first == second
    table = pa.concat_tables(pq.read_table(p) for p in sorted((tmp_path / "out-a").glob("*.parquet")))
    assert table["id"].to_pylist() == [f"k{n}" for n in numbers]


def test_the_accepted_row_of_an_id_is_written_or_else_the_latest_rejected_one(tmp_path):
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


def test_several_rows_of_one_are_written_in_the_order_of_the_second_key(tmp_path):
    order = order_file(tmp_path, [2, 1])
    pairs = [{"id": f"k{n}", "rank": rank} for n in (1, 2) for rank in (3, 1, 2)]
    files = [write(tmp_path / f"{n}.parquet", pairs[n::2], FLAT) for n in range(2)]
    assert compact(files, [order], "id", FLAT, str(tmp_path / "out"), then_by="rank") == 0
    table = pq.read_table(tmp_path / "out" / "part-00000.parquet").to_pylist()
    assert [(r["id"], r["rank"]) for r in table] == [("k2", 1), ("k2", 2), ("k2", 3), ("k1", 1), ("k1", 2), ("k1", 3)]


def test_a_file_is_closed_when_it_is_large_enough(tmp_path, monkeypatch):
    monkeypatch.setattr("reasonembed.compaction.ROWS_AT_A_TIME", 10)
    order = order_file(tmp_path, range(35))
    files = [write(tmp_path / "0.parquet", rows(*range(35)), SCHEMA)]
    compact(files, [order], "id", SCHEMA, str(tmp_path / "out"), file_bytes=1)
    assert sorted(hashes(tmp_path / "out")) == [f"part-0000{n}.parquet" for n in range(4)]


def test_no_rows_are_an_empty_table(tmp_path):
    order = order_file(tmp_path, [1])
    assert compact([], [order], "id", SCHEMA, str(tmp_path / "out")) == 1
    assert pq.read_table(tmp_path / "out" / "part-00000.parquet").num_rows == 0


def test_rows_are_transformed_in_order_and_in_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr("reasonembed.compaction.ROWS_AT_A_TIME", 10)
    monkeypatch.setattr("reasonembed.compaction.OPEN_TABLES", 2)
    order = order_file(tmp_path, range(35))
    files = [write(tmp_path / f"{n}.parquet", rows(*range(n, 35, 5)), SCHEMA) for n in range(5)]
    received = []

    def finish(table):
        received.extend(table["id"].to_pylist())
        return table.set_column(1, "text", pa.array(["changed"] * table.num_rows))

    compact(files, [order], "id", SCHEMA, str(tmp_path / "out"), finish=finish, row_group_rows=7)
    assert received == [f"k{n}" for n in range(35)]
    parquet = pq.ParquetFile(tmp_path / "out" / "part-00000.parquet")
    assert parquet.read()["text"].unique().to_pylist() == ["changed"]
    assert max(parquet.metadata.row_group(n).num_rows for n in range(parquet.num_row_groups)) == 7
