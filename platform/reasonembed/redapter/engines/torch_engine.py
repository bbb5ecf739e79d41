"""Plain torch: the weights whole on every rank. Needs no DeepSpeed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from reasonembed.config import Train
from reasonembed.embedder.model import Embedder
from reasonembed.redapter.gather import rank, world_size

CHECKPOINT = "plain.pt"


class TorchEngine:
    def __init__(self, model: Embedder, optimizer: torch.optim.Optimizer, settings: Train) -> None:
        self._model = model
        self._optimizer = optimizer
        self._max_grad_norm = settings.max_grad_norm
        self._trained = [p for p in model.parameters() if p.requires_grad]

    @property
    def model(self) -> Embedder:
        return self._model

    def __call__(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return self._model(**batch)  # type: ignore[no-any-return]

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]

    def step(self, learning_rate: float) -> None:
        if world_size() > 1:
            for parameter in self._trained:
                # A rank whose texts do not reach a parameter takes part with nothing.
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                dist.all_reduce(parameter.grad)
        torch.nn.utils.clip_grad_norm_(self._trained, self._max_grad_norm)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        self._optimizer.zero_grad()

    def save(self, folder: Path, state: dict[str, Any]) -> None:
        if rank() == 0:
            weights = {name: p.detach() for name, p in self._model.named_parameters() if p.requires_grad}
            whole = {"weights": weights, "optimizer": self._optimizer.state_dict(), "state": state}
            torch.save(whole, folder / CHECKPOINT)

    def load(self, folder: Path) -> dict[str, Any]:
        found = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True)
        self._model.load_state_dict(found["weights"], strict=False)
        self._optimizer.load_state_dict(found["optimizer"])
        return dict(found["state"])

    @contextmanager
    def whole_weights(self) -> Iterator[None]:
        yield
