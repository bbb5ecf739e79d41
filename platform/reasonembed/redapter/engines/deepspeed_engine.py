"""DeepSpeed ZeRO: optimiser, gradients and weights spread over the ranks, by stage."""

import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from reasonembed.config import Train
from reasonembed.embedder.model import Embedder
from reasonembed.redapter.gather import world_size

TAG, CLIENT = "state", "reasonembed"


def deepspeed_config(settings: Train, workers: int) -> dict[str, Any]:
    """DeepSpeed's JSON. The learning rate is the loop's to set, and so is the end of a step: gradients add up over any
    number of backward passes."""
    zero: dict[str, Any] = {"stage": settings.zero_stage, "overlap_comm": False}
    if settings.zero_stage == 3:
        # Small models would otherwise stay whole on every rank.
        zero["stage3_param_persistence_threshold"] = 0
    return {
        # DeepSpeed's own notion of a batch, which nothing here depends on; its loss scaling must not divide by it.
        "train_batch_size": workers,
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": settings.max_grad_norm,
        "zero_optimization": zero,
        "bf16": {"enabled": settings.dtype == "bfloat16"},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 1 << 30,
    }


class DeepSpeedEngine:
    def __init__(self, model: Embedder, optimizer: torch.optim.Optimizer, settings: Train) -> None:
        on_gpu = next(model.parameters()).is_cuda
        if not on_gpu:
            os.environ.setdefault("DS_ACCELERATOR", "cpu")
        import deepspeed

        if not on_gpu:
            # Probing for CPU kernels compiles them for 40 s; torch's AdamW needs none.
            deepspeed.ops.__compatible_ops__ = defaultdict(bool)
        os.environ.setdefault("LOCAL_RANK", "0")  # Ray Train and other launchers say which GPU it is
        if not dist.is_initialized():
            store = dist.HashStore()  # type: ignore[attr-defined]
            dist.init_process_group("nccl" if on_gpu else "gloo", store=store, rank=0, world_size=1)
        self._engine, *_ = deepspeed.initialize(
            model=model,
            optimizer=optimizer,
            config=deepspeed_config(settings, world_size()),
            dist_init_required=False,
        )
        self._engine.train()

    @property
    def model(self) -> Embedder:
        return self._engine.module  # type: ignore[no-any-return]

    def __call__(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return self._engine(**batch)  # type: ignore[no-any-return]

    def backward(self, loss: torch.Tensor) -> None:
        # DeepSpeed averages over the ranks what is a sum here.
        self._engine.backward(loss * world_size())

    def step(self, learning_rate: float) -> None:
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate
        self._engine.step()

    def save(self, folder: Path, state: dict[str, Any]) -> None:
        self._engine.save_checkpoint(str(folder), tag=TAG, client_state={CLIENT: state})

    def load(self, folder: Path) -> dict[str, Any]:
        # DeepSpeed hands back what it wrote for itself as well, so ours has a key of its own.
        _, state = self._engine.load_checkpoint(str(folder), tag=TAG)
        return dict(state[CLIENT])

    @contextmanager
    def whole_weights(self) -> Iterator[None]:
        import deepspeed

        parameters = list(self.model.parameters())
        partitioned = any(hasattr(p, "ds_id") for p in parameters)
        with deepspeed.zero.GatheredParameters(parameters, enabled=partitioned):
            yield
