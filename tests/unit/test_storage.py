import hashlib
import os
from pathlib import Path

import pyarrow as pa
import pytest
from fault_proxy import Fault

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


@pytest.mark.parametrize("write", [storage.write_bytes, storage.put_if_absent])
def test_a_file_that_cannot_be_written_leaves_the_old_one_and_no_other(tmp_path, monkeypatch, write):
    uri = str(tmp_path / "record.json")
    storage.write_bytes(uri, b"old")

    def fail(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write(uri, b"new")
    assert storage.read_bytes(uri) == b"old"
    assert list(tmp_path.iterdir()) == [tmp_path / "record.json"]


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


def test_small_files_on_s3_start_no_multipart_upload(proxy):
    storage.write_bytes("s3://bucket/small/record.json", b"x" * (4 << 20))
    storage.write_table(pa.table({"a": [1, 2]}), "s3://bucket/small/t.parquet")
    with storage.open_output("s3://bucket/small/part-0") as stream:
        stream.write(b"part")
    assert storage.list_files("s3://bucket/small") == ["part-0", "record.json", "t.parquet"]
    assert storage.size("s3://bucket/small/record.json") == 4 << 20
    assert {request.method for request in proxy.requests} == {"PUT", "GET", "HEAD"}
    assert not [request.path for request in proxy.requests if "upload" in request.path]


def test_files_on_s3_survive_a_store_that_answers_503_for_two_seconds(proxy):
    proxy.fail(Fault(status=503, seconds=2))
    storage.write_bytes("s3://bucket/faults/a", b"content")
    proxy.fail(Fault(status=503, seconds=2))
    assert storage.read_bytes("s3://bucket/faults/a") == b"content"
    proxy.fail(Fault(cut="request", times=5))
    assert storage.list_files("s3://bucket/faults") == ["a"]
    proxy.fail(Fault(cut="answer", times=5))
    storage.delete_tree("s3://bucket/faults")
    assert not storage.exists("s3://bucket/faults/a")


@pytest.mark.parametrize(
    "operation",
    [
        storage.exists,
        storage.size,
        storage.read_bytes,
        storage.list_files,
        storage.row_count,
        storage.delete_tree,
        lambda uri: storage.write_bytes(uri, b""),
        lambda uri: storage.put_if_absent(uri, b""),
        lambda uri: storage.describe_file(uri, "a"),
    ],
)
def test_expired_credentials_are_one_line_in_every_function(proxy, operation):
    proxy.fail(Fault(status=400, code="ExpiredToken"))
    with pytest.raises(UserError, match=r"^the credentials have expired; log in again") as caught:
        operation("s3://bucket/a")
    assert isinstance(caught.value, OSError)


def test_a_bucket_that_cannot_be_written_is_one_line(proxy):
    proxy.fail(Fault(status=403, code="AccessDenied", method="PUT"))
    with pytest.raises(
        UserError, match=r"^run.root s3://bucket/run cannot be written: the key is not allowed to write"
    ):
        storage.check_writable("s3://bucket/run")
    with pytest.raises(UserError, match=r"^the key is not allowed to do this in bucket bucket: When"):
        storage.write_bytes("s3://bucket/run/a", b"")


def test_an_absent_object_is_not_found(proxy):
    assert not storage.exists("s3://bucket/absent")
    with pytest.raises(FileNotFoundError):
        storage.read_bytes("s3://bucket/absent")
