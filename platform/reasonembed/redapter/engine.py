"""The DeepSpeed engine around the embedder: settings, set-up, checkpoint, export."""

import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from reasonembed.config import Train
from reasonembed.embedder.model import Embedder
from reasonembed.redapter.gather import rank, world_size

TAG, CLIENT = "state", "reasonembed"


def deepspeed_config(settings: Train) -> dict[str, Any]:
    """DeepSpeed's JSON. Batch sizes are in queries; the learning rate is the loop's to set."""
    zero: dict[str, Any] = {"stage": settings.zero_stage}
    if settings.zero_stage == 3:
        # Small models would otherwise stay whole on every rank.
        zero["stage3_param_persistence_threshold"] = 0
    return {
        "train_batch_size": settings.batch_size,
        "train_micro_batch_size_per_gpu": settings.batch_size // settings.workers,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": settings.max_grad_norm,
        "zero_optimization": zero,
        "bf16": {"enabled": settings.dtype == "bfloat16"},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 1 << 30,
    }


def start_engine(model: Embedder, settings: Train) -> Any:
    """Wrap the embedder; the process group must be up."""
    if not settings.use_gpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed

    if not settings.use_gpu:
        # Probing for CPU kernels compiles them for 40 s; torch's AdamW needs none.
        deepspeed.ops.__compatible_ops__ = defaultdict(bool)
    _disable_dropout(model)
    optimizer = torch.optim.AdamW(
        (p for p in model.parameters() if p.requires_grad),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
    )
    engine, *_ = deepspeed.initialize(
        model=model, optimizer=optimizer, config=deepspeed_config(settings), dist_init_required=world_size() == 1
    )
    return engine


def learning_rate(settings: Train, step: int) -> float:
    """Linear warm-up, then linear decay to zero at the last step; a function of the step, so that resume is exact."""
    warmup = settings.warmup_fraction * settings.steps
    rising = (step + 1) / warmup if warmup >= 1 else 1.0
    falling = (settings.steps - step) / max(1.0, settings.steps - warmup)
    return settings.learning_rate * min(1.0, rising, falling)


def set_learning_rate(engine: Any, value: float) -> None:
    for group in engine.optimizer.param_groups:
        group["lr"] = value


def save_state(engine: Any, folder: Path, state: dict[str, Any]) -> None:
    """Every rank writes its shard; ``state`` (step, history) goes with it."""
    engine.save_checkpoint(str(folder), tag=TAG, client_state={CLIENT: state})


def load_state(engine: Any, folder: Path) -> dict[str, Any]:
    # DeepSpeed hands back what it wrote for itself as well, so ours has a key of its own.
    _, state = engine.load_checkpoint(str(folder), tag=TAG)
    return dict(state[CLIENT])


def export_model(engine: Any, folder: Path, max_tokens: int) -> None:
    """Rank 0 writes the model folder; all ranks must call this, since ZeRO-3 gathers the parameters."""
    import deepspeed

    model: Embedder = engine.module
    parameters = list(model.parameters())
    partitioned = any(hasattr(p, "ds_id") for p in parameters)
    with deepspeed.zero.GatheredParameters(parameters, enabled=partitioned):
        if rank() == 0:
            model.save(folder, max_tokens)


def _disable_dropout(model: torch.nn.Module) -> None:
    # Without it a step is a function of weights and batch alone, and its random numbers cost a fifth of a CPU step.
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
