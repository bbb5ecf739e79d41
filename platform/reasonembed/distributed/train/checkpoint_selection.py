"""The checkpoint from which a training resumes: the newest one that is whole.

Ray Train keeps two checkpoints (and the newest one, where it keeps the best two). ``ray.train.get_checkpoint`` gives
only the newest one. For ray==2.60.0.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray.train

from reasonembed import storage
from reasonembed.errors import UserError
from reasonembed.redapter.checkpoint_manifest import find_damage
from reasonembed.redapter.gather import any_rank, rank, world_size

SNAPSHOT = "checkpoint_manager_snapshot.json"
"""Ray Train's list of checkpoints, in its folder."""


@contextmanager
def newest_whole_checkpoint(progress: Any, run_folder: str, device: Any) -> Iterator[Path | None]:
    """Yields the local folder of the newest checkpoint that is not damaged; None if there has been no checkpoint.

    Every rank must call this; all get the same checkpoint. Each rank checks a share of the files.

    Args:
        progress: a ``TrainingProgress``, which shows one warning for each damaged checkpoint.
        run_folder: URI of Ray Train's folder with all checkpoints, for the error.
        device: the device that the process group exchanges tensors on.

    Raises:
        UserError: all checkpoints are damaged.
    """
    reported = ray.train.get_all_reported_checkpoints(ray.train.CheckpointConsistencyMode.COMMITTED)
    # A step that was repeated after damage has two checkpoints; the names contain the time.
    reported = sorted(reported, key=lambda entry: (entry.metrics["step"], entry.checkpoint.path), reverse=True)
    for entry in reported:
        with entry.checkpoint.as_directory() as folder:
            damage = find_damage(Path(folder), (rank(), world_size()))
            if not any_rank(damage is not None, device):
                yield Path(folder)
                return
        if damage is not None:
            name = entry.checkpoint.path.rsplit("/", 1)[-1]
            text = f"checkpoint {name} of step {entry.metrics['step']} is damaged ({damage}) and is not used"
            progress.warn.remote(name, text)
    if reported:
        raise UserError(
            f"all {len(reported)} checkpoints in {run_folder} are damaged; remove that folder to train from the start"
        )
    yield None


def check_run_folder(run_folder: str) -> None:
    """Checks that Ray Train can read its list of checkpoints, which it would not explain.

    Args:
        run_folder: URI of Ray Train's folder with all checkpoints.

    Raises:
        UserError: the list is damaged, or names a checkpoint that is missing.
    """
    uri = storage.join(run_folder, SNAPSHOT)
    if not storage.exists(uri):
        return
    try:
        names = [
            str(entry["checkpoint_dir_name"]) for entry in json.loads(storage.read_bytes(uri))["checkpoint_results"]
        ]
    except (ValueError, TypeError, KeyError):
        raise UserError(f"{uri} is damaged; remove the folder {run_folder} to train from the start") from None
    for name in names:
        if not storage.exists(storage.join(run_folder, name)):
            raise UserError(f"checkpoint {name} is missing in {run_folder}; remove that folder to train from the start")
