import hashlib
from pathlib import Path

import pyarrow as pa
import pytest

from reasonembed import storage
from reasonembed.errors import UserError


def test_the_first_of_two_writers_creates_the_file(tmp_path):
    uri = str(tmp_path / "a" / "record.json")
    assert storage.put_if_absent(uri, b"first")
    assert not storage.put_if_absent(uri, b"second")
    assert storage.read_bytes(uri) == b"first"
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["record.json"]


def test_tables_round_trip_and_hidden_files_are_not_listed(tmp_path):
    schema = pa.schema([("a", pa.int64()), ("b", pa.string())])
    table = pa.table({"a": [1, 2], "b": ["x", None]}, schema=schema)
    storage.write_table(table, str(tmp_path / "x=1" / "t.parquet"))
    storage.write_bytes(str(tmp_path / ".work" / "scratch"), b"")
    assert storage.list_files(str(tmp_path)) == ["x=1/t.parquet"]
    assert storage.read_table([str(tmp_path / "x=1" / "t.parquet")], schema).equals(table)
    content = (tmp_path / "x=1" / "t.parquet").read_bytes()
    entry = storage.describe_file(str(tmp_path), "x=1/t.parquet")
    assert entry == storage.FileEntry("x=1/t.parquet", len(content), hashlib.sha256(content).hexdigest())


def test_other_schemes_are_not_supported():
    with pytest.raises(UserError, match="only local paths and s3://"):
        storage.open_filesystem("gs://bucket/x")


def test_a_folder_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        storage.check_writable(str(tmp_path / "file" / "runs"))
    storage.check_writable(str(tmp_path / "runs"))
    assert storage.list_folders(str(tmp_path)) == ["runs"]
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    uri = str(tmp_path / "record.json")
    storage.write_bytes(uri, b"old")

    def fail(path, data):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="disk full"):
        storage.write_bytes(uri, b"new")
    assert storage.read_bytes(uri) == b"old"


def test_results_have_the_order_of_the_files(tmp_path):
    schema = pa.schema([("n", pa.int64())])
    uris = [str(tmp_path / f"{n}.parquet") for n in range(40)]
    for n, uri in enumerate(uris):
        storage.write_table(pa.table({"n": [n] * (n + 1), "other": [0.0] * (n + 1)}), uri)
    assert storage.map_concurrently(storage.row_count, uris) == [n + 1 for n in range(40)]
    table = storage.read_table(uris, schema)
    assert table.schema == schema
    assert table["n"].unique().to_pylist() == list(range(40))
    assert storage.read_table([], schema).equals(schema.empty_table())


def test_folders_are_uploaded_listed_and_deleted(tmp_path):
    source = tmp_path / "source"
    (source / "inner").mkdir(parents=True)
    (source / "inner" / "a").write_bytes(b"a")
    (source / "b").write_bytes(b"bb")
    target = str(tmp_path / "target")
    storage.upload_tree(source, target)
    assert storage.list_files(target) == ["b", "inner/a"]
    assert storage.list_folders(target) == ["inner"]
    assert storage.size(storage.join(target, "b")) == 2
    assert storage.is_file(storage.join(target, "b"))
    assert not storage.is_file(target)
    with storage.local_copy(target) as folder:
        assert folder == Path(target)
    storage.delete_tree(target)
    assert not storage.exists(target)
    storage.delete_tree(target)
    assert storage.list_files(target) == storage.list_folders(target) == []
