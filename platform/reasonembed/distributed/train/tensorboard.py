"""TensorBoard event files of a training."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from tensorboardX import SummaryWriter

from reasonembed import storage


class TensorBoardLog:
    """The event log that rank 0 writes.

    Events go to a local folder first, because objects in an object store cannot be appended to.

    Args:
        uri: of the log, which a resumed training continues.
        start: number of steps that are finished already; TensorBoard drops later events of an interrupted run.
    """

    def __init__(self, uri: str, start: int) -> None:
        self._uri = uri
        self._folder = tempfile.TemporaryDirectory(prefix="reasonembed-tensorboard-")
        self._writer = SummaryWriter(self._folder.name, purge_step=start + 1)

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """Adds the figures of a step."""
        for name, value in figures.items():
            self._writer.add_scalar(f"train/{name}", value, step)

    def publish(self) -> None:
        """Uploads all events so far."""
        self._writer.flush()
        storage.upload_tree(Path(self._folder.name), self._uri)
