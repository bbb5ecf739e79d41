import pytest

from reasonembed import artifacts, storage
from reasonembed.artifacts import fingerprint, materialise
from reasonembed.errors import UserError


def build_one(uri):
    storage.write_bytes(storage.join(uri, "data.txt"), b"hello")
    storage.write_bytes(storage.join(uri, artifacts.SCRATCH, "half"), b"")
    return {"rows": 1}


def test_second_time_nothing_is_built_and_scratch_is_gone(tmp_path):
    reused = []
    first = materialise(str(tmp_path), "stage", 1, {"a": 1}, {}, build_one)
    again = materialise(str(tmp_path), "stage", 1, {"a": 1}, {}, lambda uri: pytest.fail("built twice"), reused.append)
    assert again.uri == first.uri
    assert reused
    assert [f.path for f in again.files] == ["data.txt"]
    assert again.figures == {"rows": 1}
    assert not storage.exists(storage.join(first.uri, artifacts.SCRATCH))


def test_without_a_record_there_is_no_artefact(tmp_path):
    def interrupted(uri):
        storage.write_bytes(storage.join(uri, "data.txt"), b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        materialise(str(tmp_path), "stage", 1, {}, {}, interrupted)
    [folder] = (tmp_path / "stage").iterdir()
    assert artifacts.load(str(folder)) is None
    assert materialise(str(tmp_path), "stage", 1, {}, {}, build_one).figures == {"rows": 1}


def test_fingerprint_depends_on_config_inputs_and_version_alone():
    base = fingerprint("s", 1, {"a": 1, "b": 2}, {"x": "1"})
    assert base == fingerprint("s", 1, {"b": 2, "a": 1}, {"x": "1"})
    others = [
        fingerprint("s", 2, {"a": 1, "b": 2}, {"x": "1"}),
        fingerprint("s", 1, {"a": 2, "b": 2}, {"x": "1"}),
        fingerprint("s", 1, {"a": 1, "b": 2}, {"x": "2"}),
        fingerprint("t", 1, {"a": 1, "b": 2}, {"x": "1"}),
    ]
    assert len({base, *others}) == 5


def test_readers_open_only_what_the_record_lists(tmp_path):
    artifact = materialise(str(tmp_path), "stage", 1, {}, {}, build_one)
    storage.write_bytes(storage.join(artifact.uri, "later.parquet"), b"")
    again = artifacts.load(artifact.uri)
    assert again.parquet() == []
    with pytest.raises(UserError, match="has no file"):
        again.path("later.parquet")


def test_damaged_record(tmp_path):
    storage.write_bytes(str(tmp_path / artifacts.RECORD), b"{")
    with pytest.raises(UserError, match="damaged"):
        artifacts.load(str(tmp_path))
