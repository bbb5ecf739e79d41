import contextlib
import json
import queue
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reasonembed import artifacts, storage
from reasonembed.artifacts import Artifact, Identity, _build_attempt, build_artifact, fingerprint
from reasonembed.errors import UserError


def identity(stage="stage", **values):
    defaults = {"version": 1, "fingerprint": "f", "row_settings": {}, "config": {}, "inputs": {}}
    return Identity(stage, **{**defaults, **values})


def write_data(uri):
    storage.write_bytes(storage.join(uri, "data.txt"), b"hello")
    storage.write_bytes(artifacts.scratch_uri(uri, "half"), b"")
    return {"rows": 1}


def test_a_build_leaves_data_and_a_record_and_no_scratch(tmp_path):
    artifact = build_artifact(str(tmp_path), identity(), write_data)
    assert artifact.folder == identity().folder(str(tmp_path)) == str(tmp_path / "stage" / "f")
    assert artifact.uri == storage.join(artifact.folder, artifact.record["attempt"])
    for uri in (artifact.uri, artifact.folder):
        loaded = artifacts.load(uri)
        assert (loaded.uri, loaded.stage, loaded.fingerprint) == (artifact.uri, "stage", "f")
    assert [(file.path, file.size) for file in loaded.files] == [("data.txt", 5)]
    assert loaded.figures == {"rows": 1}
    assert not storage.exists(artifacts.scratch_uri(artifact.uri))


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
    storage.delete_tree(source.folder)
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
    assert [name.split("/")[1] for name in storage.list_files(identity().folder(str(tmp_path)))] == ["data.txt"]
    assert artifacts.load(identity().folder(str(tmp_path))) is None
    assert artifacts.finished(str(tmp_path), "stage") == []
    assert build_artifact(str(tmp_path), identity(), write_data).figures == {"rows": 1}


def test_an_interrupted_build_may_continue_from_its_files(tmp_path):
    storage.write_bytes(storage.join(identity().folder(str(tmp_path)), artifacts.SCRATCH, "half"), b"done")

    def build(uri):
        return {"continued": storage.read_bytes(artifacts.scratch_uri(uri, "half")).decode()}

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


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"files": [{"path": "../x", "size": 0, "sha256": ""}]}, "outside the folder"),
        ({"files": [{"path": "/etc/x", "size": 0, "sha256": ""}]}, "outside the folder"),
        ({"files": ["x"]}, "not a file"),
        ({"attempt": None}, "attempt"),
        ({"figures": []}, "figures"),
    ],
)
def test_a_record_that_is_json_and_still_not_valid(tmp_path, change, reason):
    artifact = build_artifact(str(tmp_path), identity(), write_data)
    path = storage.join(artifact.folder, artifacts.RECORD)
    storage.write_bytes(path, json.dumps({**artifact.record, **change}).encode())
    with pytest.raises(UserError, match=reason):
        artifacts.load(artifact.folder)


@pytest.mark.parametrize("content", [b"{}", b"[]", b"null", b"1"])
def test_a_damaged_record_does_not_hide_its_siblings(tmp_path, content, caplog):
    whole = build_artifact(str(tmp_path), identity(fingerprint="a"), write_data)
    storage.write_bytes(str(tmp_path / "stage" / "b" / artifacts.RECORD), content)
    assert [artifact.uri for artifact in artifacts.finished(str(tmp_path), "stage")] == [whole.uri]
    assert "damaged" in caplog.text


def test_two_runs_at_once_build_an_artifact_once(tmp_path):
    built, waited = [], []
    begun = threading.Event()

    def slow(uri):
        begun.set()
        time.sleep(0.3)
        built.append(uri)
        return write_data(uri)

    first = threading.Thread(target=build_artifact, args=(str(tmp_path), identity(), slow))
    first.start()
    begun.wait(timeout=5)
    artifact = build_artifact(str(tmp_path), identity(), slow, waited.append)
    first.join()
    assert built == [artifact.uri]
    assert len(waited) == 1


def test_a_failed_build_leaves_the_work_to_the_next_run(tmp_path):
    def failing(uri):
        raise UserError("no")

    with pytest.raises(UserError):
        build_artifact(str(tmp_path), identity(), failing)
    assert build_artifact(str(tmp_path), identity(), write_data).figures == {"rows": 1}


def test_whoever_finishes_second_takes_the_first_result(tmp_path):
    """A run that was paused, lost its lease, and continues when another one has finished."""
    folder = identity().folder(str(tmp_path))

    def overtaken(uri):
        write_data(uri)
        _build_attempt(folder, identity(), lambda other: write_data(other) | {"rows": 2})
        return {"rows": 1}

    artifact = build_artifact(str(tmp_path), identity(), overtaken)
    assert artifact.figures == {"rows": 2}
    assert storage.list_folders(folder) == [".lease", artifact.record["attempt"]]


def test_a_run_that_lost_its_scratch_files_to_a_finished_one_takes_its_result(tmp_path):
    folder = identity().folder(str(tmp_path))

    def overtaken(uri):
        storage.write_bytes(artifacts.scratch_uri(uri, "rows"), b"x")
        _build_attempt(folder, identity(), write_data)
        return {"rows": len(storage.read_bytes(artifacts.scratch_uri(uri, "rows")))}

    assert build_artifact(str(tmp_path), identity(), overtaken).figures == {"rows": 1}


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_record_never_describes_incomplete_or_foreign_files(tmp_path_factory, data):
    """Interleavings of three runs, each of which may be killed between any two of its steps."""
    root = str(tmp_path_factory.mktemp("runs"))
    folder = identity().folder(root)
    runs = [_run_in_steps(folder, number) for number in range(3)]
    while runs:
        run = data.draw(st.sampled_from(runs))
        killed = data.draw(st.booleans() if len(runs) > 1 else st.just(False))
        if killed or next(run, "end") == "end":
            runs.remove(run)
            if killed:
                run.close()
        artifact = artifacts.load(folder)
        if artifact is not None:
            content = {storage.read_bytes(artifact.path(entry.path)) for entry in artifact.files}
            assert content == {str(artifact.figures["run"]).encode()}
            assert len(artifact.files) == 2
            for entry in artifact.files:
                assert storage.describe_file(artifact.uri, entry.path) == entry
    artifact = artifacts.load(folder)
    assert artifact is not None


def _run_in_steps(folder: str, number: int):
    """One attempt as a generator, which can be stopped after each write."""
    pauses = queue.Queue()
    results = queue.Queue()

    def pause() -> None:
        results.put("pause")
        if pauses.get() == "kill":
            raise KeyboardInterrupt

    def build(uri):
        for name in ("a", "b"):
            storage.write_bytes(storage.join(uri, name), str(number).encode())
            pause()
        return {"run": number}

    def attempt() -> None:
        with contextlib.suppress(KeyboardInterrupt):
            _build_attempt(folder, identity(), build)
        results.put("end")

    thread = threading.Thread(target=attempt, daemon=True)
    started = False
    try:
        while True:
            if started:
                pauses.put("go")
            else:
                thread.start()
                started = True
            if results.get(timeout=10) == "end":
                return
            yield "pause"
    except GeneratorExit:
        pauses.put("kill")
        thread.join(timeout=10)
