import pyarrow as pa
import pytest

from reasonembed import storage
from reasonembed.errors import UserError


def test_of_two_writers_one_wins(tmp_path):
    uri = str(tmp_path / "a" / "record.json")
    assert storage.put_if_absent(uri, b"first")
    assert not storage.put_if_absent(uri, b"second")
    assert storage.read_bytes(uri) == b"first"
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["record.json"]


def test_tables_round_trip_and_hidden_files_are_no_data(tmp_path):
    schema = pa.schema([("a", pa.int64()), ("b", pa.string())])
    table = pa.table({"a": [1, 2], "b": ["x", None]}, schema=schema)
    storage.write_table(table, str(tmp_path / "x=1" / "t.parquet"))
    storage.write_bytes(str(tmp_path / ".work" / "scratch"), b"")
    assert storage.list_files(str(tmp_path)) == ["x=1/t.parquet"]
    assert storage.read_table([str(tmp_path / "x=1" / "t.parquet")], schema).equals(table)
    entry = storage.describe_file(str(tmp_path), "x=1/t.parquet")
    assert entry.size == (tmp_path / "x=1" / "t.parquet").stat().st_size


def test_other_schemes_are_refused():
    with pytest.raises(UserError, match="only local paths and s3://"):
        storage.open_filesystem("gs://bucket/x")


def test_root_that_is_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        storage.check_writable(str(tmp_path / "file" / "runs"))
