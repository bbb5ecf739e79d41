"""The order of calls that make a local file survive a loss of power."""

import errno
import os
from pathlib import Path

import pytest

from reasonembed import storage
from reasonembed.durability import create_file, make_folder, replace_file, sync_folder, sync_folder_tree


@pytest.fixture
def calls(monkeypatch):
    """The synchronised paths and the renames and links, in order."""
    calls = []
    fsync, replace, link = os.fsync, Path.replace, os.link

    def record_fsync(descriptor):
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        calls.append(("sync", "temporary" if path.name.startswith(".") else path.name))
        fsync(descriptor)

    def record_replace(path, target):
        calls.append(("name", Path(target).name))
        return replace(path, target)

    def record_link(path, target):
        calls.append(("name", Path(target).name))
        link(path, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(Path, "replace", record_replace)
    monkeypatch.setattr(os, "link", record_link)
    return calls


@pytest.mark.parametrize("write", [storage.write_bytes, storage.put_if_absent])
def test_a_file_is_on_the_disk_before_it_has_its_name_and_its_name_before_the_end(tmp_path, calls, write):
    folder = tmp_path / "folder"
    folder.mkdir()
    write(str(folder / "record.json"), b"data")
    assert calls == [("sync", "temporary"), ("name", "record.json"), ("sync", "folder")]


def test_the_names_of_new_folders_are_on_the_disk(tmp_path, calls):
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    assert calls == [("sync", tmp_path.name), ("sync", "a")]
    make_folder(tmp_path / "a" / "b")
    assert len(calls) == 2


def test_a_file_that_exists_is_not_created_again(tmp_path):
    path = tmp_path / "a"
    assert create_file(path, b"1")
    assert not create_file(path, b"2")
    assert path.read_bytes() == b"1"
    replace_file(path, b"3")
    assert path.read_bytes() == b"3"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_does_not_replace_a_folder(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        replace_file(tmp_path / "a", b"")
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_all_files_of_a_tree_are_on_the_disk(tmp_path, calls):
    (tmp_path / "x" / "y").mkdir(parents=True)
    (tmp_path / "x" / "1").write_bytes(b"1")
    (tmp_path / "x" / "y" / "2").write_bytes(b"2")
    sync_folder_tree(tmp_path / "x")
    assert calls == [("sync", "1"), ("sync", "x"), ("sync", "2"), ("sync", "y")]
    calls.clear()
    storage.sync_tree(str(tmp_path / "x"))
    assert ("sync", "2") in calls
    storage.sync_tree("s3://bucket/x")


def test_a_filesystem_that_cannot_synchronise_folders_is_used_without(tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError(code, "fsync")

    monkeypatch.setattr(os, "fsync", fail)
    code = errno.EINVAL
    sync_folder(tmp_path)
    code = errno.EIO
    with pytest.raises(OSError, match="fsync"):
        sync_folder(tmp_path)
