"""The training engine in plain torch: every rank has all weights. Needs no DeepSpeed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from reasonembed.config import Train
from reasonembed.embedder.model import Embedder
from reasonembed.redapter.engines.training_engine import NonFiniteNorm
from reasonembed.redapter.gather import any_rank, rank, world_size

CHECKPOINT_FILE = "plain.pt"


class TorchEngine:
    """A ``TrainingEngine`` that sums gradients by all-reduce.

    Args:
        model: the embedder.
        optimizer: over its trained parameters.
        settings: of training.
    """

    def __init__(self, model: Embedder, optimizer: torch.optim.Optimizer, settings: Train) -> None:
        self._model = model
        self._optimizer = optimizer
        self._max_grad_norm = settings.max_grad_norm
        self._trained = [p for p in model.parameters() if p.requires_grad]

    @property
    def model(self) -> Embedder:
        """The embedder."""
        return self._model

    def __call__(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Returns (texts, dim) unit vectors of padded ids."""
        return self._model(**batch)  # type: ignore[no-any-return]

    def backward(self, loss: torch.Tensor) -> None:
        """Adds the gradient of this rank's part of the loss."""
        loss.backward()  # type: ignore[no-untyped-call]

    def step(self, learning_rate: float) -> None:
        """Sums the gradients over the ranks, clips them, updates the weights and clears the gradients.

        Raises:
            NonFiniteNorm: the norm is not a finite number; no weight has changed.
        """
        if world_size() > 1:
            for parameter in self._trained:
                # All ranks must take part in the all-reduce, even if the loss of one does not reach the parameter.
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                dist.all_reduce(parameter.grad)
        norm = torch.nn.utils.clip_grad_norm_(self._trained, self._max_grad_norm)
        if not torch.isfinite(norm):
            raise NonFiniteNorm(f"gradient norm {norm.item()}")
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        self._optimizer.zero_grad()

    def weights_are_finite(self) -> bool:
        """Returns whether all trained weights on all ranks are finite numbers."""
        finite = all(bool(torch.isfinite(parameter).all()) for parameter in self._trained)
        return not any_rank(not finite, self._trained[0].device)

    def save(self, folder: Path, state: dict[str, Any]) -> None:
        """Writes the checkpoint on rank 0."""
        if rank() == 0:
            weights = {name: p.detach() for name, p in self._model.named_parameters() if p.requires_grad}
            checkpoint = {"weights": weights, "optimizer": self._optimizer.state_dict(), "state": state}
            torch.save(checkpoint, folder / CHECKPOINT_FILE)

    def load(self, folder: Path) -> dict[str, Any]:
        """Loads a checkpoint and returns its ``state``."""
        checkpoint = torch.load(folder / CHECKPOINT_FILE, map_location="cpu", weights_only=True)
        self._model.load_state_dict(checkpoint["weights"], strict=False)
        self._optimizer.load_state_dict(checkpoint["optimizer"])
        return dict(checkpoint["state"])

    @contextmanager
    def gathered_weights(self) -> Iterator[None]:
        """Does nothing: the weights are whole on every rank."""
        yield
