import json

import pytest

from reasonembed import artifacts, storage
from reasonembed.artifacts import Artifact, Identity, build_artifact, fingerprint
from reasonembed.errors import UserError


def identity(stage="stage", **values):
    defaults = {"version": 1, "fingerprint": "f", "row_settings": {}, "config": {}, "inputs": {}}
    return Identity(stage, **{**defaults, **values})


def write_data(uri):
    storage.write_bytes(storage.join(uri, "data.txt"), b"hello")
    storage.write_bytes(storage.join(uri, artifacts.SCRATCH, "half"), b"")
    return {"rows": 1}


def test_a_build_leaves_data_and_a_record_and_no_scratch(tmp_path):
    artifact = build_artifact(str(tmp_path), identity(), write_data)
    assert artifact.uri == identity().uri(str(tmp_path)) == str(tmp_path / "stage" / "f")
    loaded = artifacts.load(artifact.uri)
    assert (loaded.stage, loaded.fingerprint) == ("stage", "f")
    assert [(file.path, file.size) for file in loaded.files] == [("data.txt", 5)]
    assert loaded.figures == {"rows": 1}
    assert not storage.exists(storage.join(artifact.uri, artifacts.SCRATCH))


def test_the_record_holds_the_identity(tmp_path):
    source = build_artifact(str(tmp_path), identity("source", fingerprint="s"), write_data)
    inputs = {"corpus": source, "prompt": "hash"}
    values = {"version": 3, "row_settings": {"run": {"seed": 1}}, "config": {"run": {"seed": 1, "actors": 2}}}
    artifact = build_artifact(str(tmp_path), identity(inputs=inputs, **values), write_data)
    record = json.loads((tmp_path / "stage" / "f" / artifacts.RECORD).read_text())
    assert (record["stage"], record["fingerprint"], record["code_version"]) == ("stage", "f", 3)
    assert record["row_settings"] == {"run": {"seed": 1}}
    assert record["config"] == {"run": {"seed": 1, "actors": 2}}
    assert record["inputs"] == {"corpus": {"uri": source.uri, "fingerprint": "s"}, "prompt": "hash"}
    assert record["seconds"] >= 0
    assert {"python", "ray", "reasonembed"} <= set(record["versions"])
    assert artifact.input("corpus").uri == source.uri


def test_an_input_that_was_removed_is_named(tmp_path):
    source = build_artifact(str(tmp_path), identity("source"), write_data)
    artifact = build_artifact(str(tmp_path), identity(inputs={"corpus": source, "prompt": "hash"}), write_data)
    storage.delete_tree(source.uri)
    for name in ("corpus", "prompt", "nothing"):
        assert artifact.find_input(name) is None
        with pytest.raises(UserError, match=repr(name)):
            artifact.input(name)


def test_without_a_record_there_is_no_artifact(tmp_path):
    def interrupted(uri):
        storage.write_bytes(storage.join(uri, "data.txt"), b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_artifact(str(tmp_path), identity(), interrupted)
    assert storage.list_files(identity().uri(str(tmp_path))) == ["data.txt"]
    assert artifacts.load(identity().uri(str(tmp_path))) is None
    assert artifacts.finished(str(tmp_path), "stage") == []
    assert build_artifact(str(tmp_path), identity(), write_data).figures == {"rows": 1}


def test_an_interrupted_build_may_continue_from_its_files(tmp_path):
    uri = identity().uri(str(tmp_path))
    storage.write_bytes(storage.join(uri, artifacts.SCRATCH, "half"), b"done")

    def build(uri):
        return {"continued": storage.read_bytes(storage.join(uri, artifacts.SCRATCH, "half")).decode()}

    assert build_artifact(str(tmp_path), identity(), build).figures == {"continued": "done"}


def test_finished_artifacts_of_a_stage(tmp_path):
    uris = [build_artifact(str(tmp_path), identity(fingerprint=name), write_data).uri for name in ("b", "a")]
    build_artifact(str(tmp_path), identity("other"), write_data)
    storage.write_bytes(str(tmp_path / "stage" / "c" / "data.txt"), b"half")
    assert [artifact.uri for artifact in artifacts.finished(str(tmp_path), "stage")] == sorted(uris)


def test_the_fingerprint_depends_on_stage_version_settings_and_inputs_alone():
    base = fingerprint("s", 1, {"a": 1, "b": 2}, {"x": "1"})
    assert base == fingerprint("s", 1, {"b": 2, "a": 1}, {"x": "1"})
    others = [
        fingerprint("s", 2, {"a": 1, "b": 2}, {"x": "1"}),
        fingerprint("s", 1, {"a": 2, "b": 2}, {"x": "1"}),
        fingerprint("s", 1, {"a": 1, "b": 2}, {"x": "2"}),
        fingerprint("s", 1, {"a": 1, "b": 2}, {"y": "1"}),
        fingerprint("t", 1, {"a": 1, "b": 2}, {"x": "1"}),
    ]
    assert len({base, *others}) == 6


def test_readers_open_only_what_the_record_lists(tmp_path):
    artifact = build_artifact(str(tmp_path), identity(), write_data)
    storage.write_bytes(storage.join(artifact.uri, "later.parquet"), b"")
    loaded = artifacts.load(artifact.uri)
    assert loaded.parquet() == []
    with pytest.raises(UserError, match="has no file"):
        loaded.path("later.parquet")
    assert loaded.path("data.txt") == storage.join(artifact.uri, "data.txt")


def test_parquet_files_come_in_order_and_by_prefix():
    paths = ["part-2.parquet", "part-1.parquet", "deep/part-0.parquet", "notes.txt"]
    artifact = Artifact("somewhere", {"files": [{"path": path, "size": 0, "sha256": ""} for path in paths]})
    assert artifact.parquet("part") == ["somewhere/part-1.parquet", "somewhere/part-2.parquet"]
    assert artifact.parquet("deep/") == ["somewhere/deep/part-0.parquet"]


def test_a_damaged_record(tmp_path):
    storage.write_bytes(str(tmp_path / artifacts.RECORD), b"{")
    with pytest.raises(UserError, match="damaged"):
        artifacts.load(str(tmp_path))
