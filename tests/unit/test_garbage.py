import pytest

from reasonembed import artifacts, garbage, storage
from reasonembed.artifacts import Identity, build_artifact
from reasonembed.garbage import find_garbage, remove
from reasonembed.lease import acquire
from reasonembed.verification import damaged_files


def build(root, stage="corpus", fingerprint="f", inputs=None):
    def write(uri):
        storage.write_bytes(storage.join(uri, "data"), b"12345")
        return {}

    return build_artifact(str(root), Identity(stage, 1, fingerprint, {}, {}, inputs or {}), write)


def kinds(entries):
    return sorted((entry.kind, entry.bytes) for entry in entries)


def test_a_finished_run_has_no_garbage(tmp_path):
    build(tmp_path)
    assert find_garbage(str(tmp_path)) == []


def test_garbage_is_found_and_removed_and_nothing_else(tmp_path):
    artifact = build(tmp_path)
    storage.write_bytes(str(tmp_path / "generate" / "half" / "a1" / "part"), b"123")
    storage.write_bytes(storage.join(artifact.folder, "lost", "data"), b"12")
    storage.write_bytes(storage.join(artifact.folder, artifacts.SCRATCH, "rows"), b"1")
    storage.write_bytes(str(tmp_path / ".probe-1"), b"")
    found = find_garbage(str(tmp_path))
    assert kinds(found) == [("attempt", 2), ("probe", 0), ("scratch", 1), ("unfinished", 3)]
    remove(found)
    assert find_garbage(str(tmp_path)) == []
    assert damaged_files(str(tmp_path)) == (1, [])


def test_what_a_running_job_builds_is_not_garbage(tmp_path):
    folder = tmp_path / "generate" / "half"
    storage.write_bytes(str(folder / ".work" / "rows"), b"123")
    with acquire(str(folder / artifacts.LEASE), lambda: False):
        assert find_garbage(str(tmp_path), expiry_seconds=20) == []
    assert kinds(find_garbage(str(tmp_path), expiry_seconds=20))[0][0] == "unfinished"


def test_results_pointers_and_their_sources_are_referenced(tmp_path):
    corpus = build(tmp_path)
    queries = build(tmp_path, "generate", "old", {"corpus": corpus})
    index = build(tmp_path, "index", "i", {"corpus": corpus})
    model = build(tmp_path, "train", "t", {"corpus": corpus})
    artifacts.point_to(str(tmp_path), model)
    found = find_garbage(str(tmp_path), unreferenced=True)
    assert [entry.uri for entry in found] == [queries.folder]
    remove(found)
    assert artifacts.load(queries.folder) is None
    assert artifacts.load(index.folder) is not None


def test_a_damaged_record_is_left_for_a_person(tmp_path):
    artifact = build(tmp_path)
    storage.write_bytes(storage.join(artifact.folder, artifacts.RECORD), b"{")
    assert find_garbage(str(tmp_path)) == []


@pytest.mark.parametrize("damage", [b"", b"54321", b"123456", None], ids=["empty", "other", "longer", "missing"])
def test_a_damaged_file_is_named(tmp_path, damage):
    artifact = build(tmp_path)
    path = storage.join(artifact.uri, "data")
    storage.delete_file(path) if damage is None else storage.write_bytes(path, damage)
    count, problems = damaged_files(str(tmp_path))
    assert count == 1
    assert len(problems) == 1
    assert path in problems[0]


def test_an_interrupted_removal_leaves_no_broken_artifact(tmp_path, monkeypatch):
    artifact = build(tmp_path)

    def interrupted(uri):
        raise KeyboardInterrupt

    monkeypatch.setattr(garbage.storage, "delete_tree", interrupted)
    entries = [garbage.Garbage(artifact.folder, "unreferenced", 5)]
    with pytest.raises(KeyboardInterrupt):
        remove(entries)
    assert artifacts.load(artifact.folder) is None
