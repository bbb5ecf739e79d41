"""The choice among Ray Train's checkpoints, on folders as Ray Train writes them."""

import json
from types import SimpleNamespace

import pytest
import ray.train

from reasonembed.distributed.train.checkpoint_selection import SNAPSHOT, check_run_folder, newest_whole_checkpoint
from reasonembed.errors import UserError
from reasonembed.redapter.checkpoint_manifest import write_manifest


class Progress:
    """Records the warnings that a ``TrainingProgress`` actor would show."""

    def __init__(self):
        self.warnings = []
        self.warn = SimpleNamespace(remote=lambda key, text: self.warnings.append((key, text)))


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    """Adds checkpoints, which Ray Train would list by their score."""
    reported = []

    def add(step, name):
        folder = tmp_path / "train" / name
        folder.mkdir(parents=True)
        (folder / "plain.pt").write_bytes(b"weights of step %d" % step)
        write_manifest(folder)
        checkpoint = ray.train.Checkpoint.from_directory(folder)
        reported.append(SimpleNamespace(checkpoint=checkpoint, metrics={"step": step, "loss": 0.5}))
        return folder

    monkeypatch.setattr(ray.train, "get_all_reported_checkpoints", lambda mode: list(reported))
    return add


def select(progress, run_folder="/runs/train"):
    with newest_whole_checkpoint(progress, run_folder, "cpu") as folder:
        return folder


def test_the_newest_checkpoint_is_selected_whatever_its_score(checkpoints):
    checkpoints(4, "checkpoint_2026-01-01_10-04")
    newest = checkpoints(6, "checkpoint_2026-01-01_10-06")
    checkpoints(2, "checkpoint_2026-01-01_10-02")
    progress = Progress()
    assert select(progress) == newest
    assert progress.warnings == []


def test_a_training_without_checkpoints_starts_anew(checkpoints):
    assert select(Progress()) is None


def test_a_damaged_checkpoint_is_passed_over_with_one_warning(checkpoints):
    before = checkpoints(4, "checkpoint_a")
    damaged = checkpoints(6, "checkpoint_b")
    (damaged / "plain.pt").write_bytes(b"weights of")
    progress = Progress()
    assert select(progress) == before
    assert progress.warnings == [
        (
            "checkpoint_b",
            "checkpoint checkpoint_b of step 6 is damaged (plain.pt has 10 bytes instead of 17) and is not used",
        )
    ]


def test_of_two_checkpoints_of_one_step_the_later_one_is_selected(checkpoints):
    damaged = checkpoints(6, "checkpoint_2026-01-01_10-06")
    repeated = checkpoints(6, "checkpoint_2026-01-01_11-06")
    (damaged / "plain.pt").unlink()
    progress = Progress()
    assert select(progress) == repeated
    assert progress.warnings == []


def test_when_all_are_damaged_the_error_names_the_folder_to_remove(checkpoints):
    for step, name in ((4, "checkpoint_a"), (6, "checkpoint_b")):
        (checkpoints(step, name) / "plain.pt").write_bytes(b"")
    progress = Progress()
    message = "^all 2 checkpoints in /runs/train are damaged; remove that folder to train from the start$"
    with pytest.raises(UserError, match=message):
        select(progress)
    assert len(progress.warnings) == 2


def test_a_list_of_checkpoints_that_is_damaged_is_one_line(tmp_path):
    folder = str(tmp_path)
    check_run_folder(folder)
    (tmp_path / SNAPSHOT).write_text(json.dumps({"checkpoint_results": [{"checkpoint_dir_name": "a"}]}))
    with pytest.raises(UserError, match=rf"^checkpoint a is missing in {folder}; remove that folder"):
        check_run_folder(folder)
    (tmp_path / "a").mkdir()
    check_run_folder(folder)
    for content in ('{"checkpoint_res', "[]", '{"checkpoint_results": [{}]}'):
        (tmp_path / SNAPSHOT).write_text(content)
        with pytest.raises(UserError, match=rf"{SNAPSHOT} is damaged; remove the folder {folder} to train"):
            check_run_folder(folder)
