"""What the loop asks of an engine, and the word that a checkpoint carries about itself."""

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import torch

from reasonembed.config import Train
from reasonembed.embedder.model import Embedder
from reasonembed.errors import UserError
from reasonembed.redapter.gather import rank, world_size

LAYOUT = "layout.json"


class TrainingEngine(Protocol):
    """The embedder, spread over the ranks. Gradients are sums over the ranks, so that the ranks' losses are parts of
    one loss."""

    @property
    def model(self) -> Embedder: ...

    def __call__(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """(texts, dim) vectors of padded ids."""

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of this rank's part of the loss; may be called several times before ``step``."""

    def step(self, learning_rate: float) -> None:
        """Sum gradients over the ranks, clip, move the weights, forget the gradients."""

    def save(self, folder: Path, state: dict[str, Any]) -> None:
        """This rank's part of a checkpoint."""

    def load(self, folder: Path) -> dict[str, Any]:
        """Weights and optimiser from a checkpoint; returns its state."""

    def whole_weights(self) -> AbstractContextManager[None]:
        """While it lasts rank 0 sees all parameters whole; every rank must enter it."""


def write_layout(folder: Path, settings: Train) -> None:
    if rank() == 0:
        layout = {"zero_stage": settings.zero_stage, "workers": world_size()}
        (folder / LAYOUT).write_text(json.dumps(layout))


def check_layout(folder: Path) -> None:
    """
    Raises:
        UserError: the checkpoint cannot be taken up by so many workers.
    """
    layout = json.loads((folder / LAYOUT).read_text())
    stage, workers = layout["zero_stage"], layout["workers"]
    if stage and workers != world_size():
        raise UserError(
            f"the checkpoint of train.zero_stage {stage} lies in {workers} shards and cannot be taken up by "
            f"{world_size()} workers; go on with train.workers={workers} (train.zero_stage 0 allows any number)"
        )
