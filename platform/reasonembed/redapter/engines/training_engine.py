"""The protocol of a training engine, and the layout file that every checkpoint contains."""

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import torch

from reasonembed.config import Train
from reasonembed.embedder.model import Embedder
from reasonembed.errors import UserError
from reasonembed.redapter.gather import rank, world_size

LAYOUT_FILE = "layout.json"


class NonFiniteNorm(ArithmeticError):
    """Raised by ``TrainingEngine.step``, on all ranks, when the norm of the gradient is not a finite number."""


class TrainingEngine(Protocol):
    """The embedder, its gradients and its optimiser, on all ranks.

    The losses of the ranks are parts of one loss, so gradients are summed over the ranks, not averaged.
    """

    @property
    def model(self) -> Embedder:
        """The embedder; with ZeRO-3 its weights are sharded."""

    def __call__(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Returns (texts, dim) unit vectors of padded ids, as ``Embedder.pad`` makes them."""

    def backward(self, loss: torch.Tensor) -> None:
        """Adds the gradient of this rank's part of the loss; may be called several times before ``step``."""

    def step(self, learning_rate: float) -> None:
        """Sums the gradients over the ranks, clips them, updates the weights and clears the gradients.

        Raises:
            NonFiniteNorm: the norm of the gradient of all ranks is not a finite number; no weight has changed.
        """

    def weights_are_finite(self) -> bool:
        """Returns whether all trained weights are finite numbers; every rank must call it, and all get one answer."""

    def save(self, folder: Path, state: dict[str, Any]) -> None:
        """Writes this rank's part of a checkpoint."""

    def load(self, folder: Path) -> dict[str, Any]:
        """Loads weights and optimiser state from a checkpoint and returns the ``state`` that was saved with them."""

    def gathered_weights(self) -> AbstractContextManager[None]:
        """Returns a context in which rank 0 sees all parameters whole; every rank must enter it."""


def write_checkpoint_layout(folder: Path, settings: Train) -> None:
    """Records the ZeRO stage and the number of workers of a checkpoint; only rank 0 writes.

    Args:
        folder: of the checkpoint.
        settings: of training.
    """
    if rank() == 0:
        layout = {"zero_stage": settings.zero_stage, "workers": world_size()}
        (folder / LAYOUT_FILE).write_text(json.dumps(layout))


def check_checkpoint_layout(folder: Path) -> None:
    """Checks that this number of workers can load a checkpoint.

    Raises:
        UserError: the checkpoint is sharded over another number of workers.
    """
    layout = json.loads((folder / LAYOUT_FILE).read_text())
    stage, workers = layout["zero_stage"], layout["workers"]
    if stage and workers != world_size():
        raise UserError(
            f"the checkpoint of train.zero_stage {stage} has {workers} shards and cannot be loaded by "
            f"{world_size()} workers; set train.workers={workers} (with train.zero_stage 0 any number can load it)"
        )
