"""The training engine on DeepSpeed ZeRO: optimiser state, gradients and weights are sharded by stage.

ZeRO: Rajbhandari et al., 2020, arXiv 1910.02054.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from reasonembed.config import Train
from reasonembed.embedder.model import Embedder
from reasonembed.redapter.engines.training_engine import NonFiniteNorm
from reasonembed.redapter.gather import any_rank, world_size

CHECKPOINT_TAG, STATE_KEY = "state", "reasonembed"


def deepspeed_config(settings: Train, workers: int) -> dict[str, Any]:
    """Returns DeepSpeed's JSON config.

    The training loop sets the learning rate and decides when a step ends; gradients add up over any number of backward
    passes until then.

    Args:
        settings: of training.
        workers: number of ranks.
    """
    zero: dict[str, Any] = {"stage": settings.zero_stage, "overlap_comm": False}
    if settings.zero_stage == 3:
        # Otherwise the parameters of small models would stay whole on every rank.
        zero["stage3_param_persistence_threshold"] = 0
    return {
        # These three only decide how DeepSpeed scales the loss; with these values it does not divide it.
        "train_batch_size": workers,
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": 0.0 if _clips_itself(settings) else settings.max_grad_norm,
        "zero_optimization": zero,
        "bf16": {"enabled": settings.dtype == "bfloat16"},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 1 << 30,
    }


def _clips_itself(settings: Train) -> bool:
    """Returns whether the engine has to clip: without ZeRO in float32, DeepSpeed does not check the norm."""
    return settings.zero_stage == 0 and settings.dtype == "float32"


class DeepSpeedEngine:
    """A ``TrainingEngine`` on DeepSpeed.

    Args:
        model: the embedder.
        optimizer: over its trained parameters; DeepSpeed shards its state.
        settings: of training.
    """

    def __init__(self, model: Embedder, optimizer: torch.optim.Optimizer, settings: Train) -> None:
        on_gpu = next(model.parameters()).is_cuda
        if not on_gpu:
            os.environ.setdefault("DS_ACCELERATOR", "cpu")
        import deepspeed

        from reasonembed.redapter.engines.deepspeed_internals import clip_gradients, skip_op_probing

        if not on_gpu:
            skip_op_probing()
        os.environ.setdefault("LOCAL_RANK", "0")  # Ray Train and other launchers set it to the number of the GPU
        if not dist.is_initialized():
            store = dist.HashStore()  # type: ignore[attr-defined]
            dist.init_process_group("nccl" if on_gpu else "gloo", store=store, rank=0, world_size=1)
        self._model = model
        self._zero_stage = settings.zero_stage
        if _clips_itself(settings):
            # It runs inside DeepSpeed's step, after the sum over the ranks and before the weights change.
            optimizer.register_step_pre_hook(
                lambda *_: _check_norm(clip_gradients(model.parameters(), settings.max_grad_norm))
            )
        self._engine, self._optimizer, *_ = deepspeed.initialize(
            model=model,
            optimizer=optimizer,
            config=deepspeed_config(settings, world_size()),
            dist_init_required=False,
        )
        self._engine.train()

    @property
    def model(self) -> Embedder:
        """The embedder; with ZeRO-3 its weights are sharded."""
        return self._model

    def __call__(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Returns (texts, dim) unit vectors of padded ids."""
        return self._engine(**batch)  # type: ignore[no-any-return]

    def backward(self, loss: torch.Tensor) -> None:
        """Adds the gradient of this rank's part of the loss."""
        # DeepSpeed averages gradients over the ranks; multiplied by their number the average is the sum.
        self._engine.backward(loss * world_size())

    def step(self, learning_rate: float) -> None:
        """Sums the gradients over the ranks, clips them, updates the weights and clears the gradients.

        Raises:
            NonFiniteNorm: the norm is not a finite number; no weight has changed.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._engine.step()
        # DeepSpeed skips a step whose norm is not finite, on all ranks, and says so only here.
        if not self._engine.was_step_applied():
            raise NonFiniteNorm(f"gradient norm {self._engine.get_global_grad_norm()}")

    def weights_are_finite(self) -> bool:
        """Returns whether all trained weights on all ranks are finite numbers."""
        import deepspeed

        finite = True
        trained = [parameter for parameter in self._model.parameters() if parameter.requires_grad]
        for parameter in trained:
            # One at a time: ZeRO-3 has room for the whole of one parameter on every rank, as in a forward pass.
            with deepspeed.zero.GatheredParameters([parameter], enabled=self._zero_stage == 3):
                finite = finite and bool(torch.isfinite(parameter).all())
        return not any_rank(not finite, trained[0].device)

    def save(self, folder: Path, state: dict[str, Any]) -> None:
        """Writes this rank's part of a checkpoint."""
        self._engine.save_checkpoint(str(folder), tag=CHECKPOINT_TAG, client_state={STATE_KEY: state})

    def load(self, folder: Path) -> dict[str, Any]:
        """Loads this rank's part of a checkpoint and returns its ``state``."""
        # DeepSpeed adds entries of its own to the client state; ours has its own key.
        _, client_state = self._engine.load_checkpoint(str(folder), tag=CHECKPOINT_TAG)
        return dict(client_state[STATE_KEY])

    @contextmanager
    def gathered_weights(self) -> Iterator[None]:
        """Gathers the weights that ZeRO-3 has sharded; does nothing in other stages."""
        import deepspeed

        with deepspeed.zero.GatheredParameters(list(self.model.parameters())):
            yield


def _check_norm(norm: torch.Tensor) -> None:
    if not torch.isfinite(norm):
        raise NonFiniteNorm(f"gradient norm {norm.item()}")
