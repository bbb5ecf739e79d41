import json

import pytest

from reasonembed.redapter import checkpoint_manifest
from reasonembed.redapter.checkpoint_manifest import find_damage, write_manifest


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A checkpoint of two ranks, each of which has written its part into a folder of its own."""
    target = tmp_path / "checkpoint"
    target.mkdir()
    for rank in range(2):
        part = tmp_path / f"rank-{rank}"
        (part / "state").mkdir(parents=True)
        (part / "state" / f"shard-{rank}.pt").write_bytes(b"weights %d" % rank)
        if rank == 0:
            (part / "history.json").write_text("{}")
        monkeypatch.setattr(checkpoint_manifest, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(checkpoint_manifest, "world_size", lambda: 2)
        write_manifest(part)
        for path in part.rglob("*"):
            if path.is_file():
                copy = target / path.relative_to(part)
                copy.parent.mkdir(exist_ok=True)
                copy.write_bytes(path.read_bytes())
    return target


def test_a_whole_checkpoint_has_no_damage(folder):
    assert find_damage(folder) is None
    manifest = json.loads((folder / "manifest-00000.json").read_text())
    assert manifest["ranks"] == 2
    assert [entry["path"] for entry in manifest["files"]] == ["history.json", "state/shard-0.pt"]


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    path.write_bytes(b"W" + path.read_bytes()[1:])


def replace_by_a_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("name", "change", "damage"),
    [
        ("state/shard-1.pt", truncate, "state/shard-1.pt has 8 bytes instead of 9"),
        ("state/shard-0.pt", flip, "the content of state/shard-0.pt has changed"),
        ("history.json", lambda path: path.unlink(), "history.json is missing"),
        ("manifest-00001.json", truncate, "manifest-00001.json is damaged"),
        ("manifest-00001.json", lambda path: path.write_text("[]"), "manifest-00001.json is damaged"),
        ("manifest-00001.json", lambda path: path.write_bytes(b"\xff"), "manifest-00001.json is damaged"),
        ("manifest-00001.json", replace_by_a_folder, "manifest-00001.json is damaged"),
        ("manifest-00000.json", lambda path: path.unlink(), "it has the manifests of 1 of 2 ranks"),
    ],
)
def test_damage_is_found_and_named(folder, name, change, damage):
    change(folder / name)
    assert find_damage(folder) == damage


def test_an_unreadable_file_is_damage(folder, monkeypatch):
    def fail(root, name):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(checkpoint_manifest.storage, "describe_file", fail)
    assert find_damage(folder) == "history.json cannot be read (Input/output error)"


def test_a_checkpoint_without_a_manifest_is_damaged(tmp_path):
    assert find_damage(tmp_path) == "it has no manifest"


@pytest.mark.parametrize("total", [1, 2, 3])
def test_several_processes_together_check_all_files(folder, total):
    truncate(folder / "state" / "shard-1.pt")
    truncate(folder / "state" / "shard-0.pt")
    damages = {find_damage(folder, (number, total)) for number in range(total)} - {None}
    assert damages == {f"state/shard-{n}.pt has 8 bytes instead of 9" for n in range(min(2, total))}


def test_only_the_selected_files_are_checked(folder):
    truncate(folder / "state" / "shard-1.pt")
    assert find_damage(folder, include=lambda name: name == "history.json") is None
    assert find_damage(folder, include=lambda name: name.startswith("state/")) is not None
