"""TensorBoard's event files of a training, kept below the artefact."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from tensorboardX import SummaryWriter

from reasonembed import storage

FOLDER = "tensorboard"


class TensorBoardLog:
    """Of rank 0. Events go to a local folder first, because an object store cannot be appended to.

    Args:
        uri: of the artefact.
        start: steps done before; what an interrupted run wrote beyond them is taken back.
    """

    def __init__(self, uri: str, start: int) -> None:
        self._uri = storage.join(uri, FOLDER)
        self._folder = tempfile.TemporaryDirectory(prefix="reasonembed-board-")
        self._writer = SummaryWriter(self._folder.name, purge_step=start + 1)

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(f"train/{name}", value, step)

    def publish(self) -> None:
        """Make what was added so far visible to others."""
        self._writer.flush()
        storage.upload_tree(Path(self._folder.name), self._uri)
