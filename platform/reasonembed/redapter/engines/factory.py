"""The factory of training engines."""

import torch

from reasonembed.config import Train
from reasonembed.embedder.model import Embedder
from reasonembed.redapter.engines.training_engine import TrainingEngine


def create_engine(model: Embedder, settings: Train) -> TrainingEngine:
    """Prepares the embedder for training and puts it into the engine that ``train.engine`` names.

    If there are several ranks, their process group must exist already.

    Args:
        model: the embedder, with the base weights.
        settings: of training.

    Raises:
        UserError: ``train.lora_targets`` names no layer of the model.
    """
    prepare_model(model, settings)
    optimizer = torch.optim.AdamW(
        (p for p in model.parameters() if p.requires_grad),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
    )
    if settings.engine == "torch":
        from reasonembed.redapter.engines.torch_engine import TorchEngine

        model.train()
        return TorchEngine(model, optimizer, settings)
    from reasonembed.redapter.engines.deepspeed_engine import DeepSpeedEngine

    return DeepSpeedEngine(model, optimizer, settings)


def prepare_model(model: Embedder, settings: Train) -> None:
    """Turns dropout off, and turns gradient checkpointing and LoRA on where the settings say so.

    Args:
        model: the embedder; it is changed.
        settings: of training.

    Raises:
        UserError: ``train.lora_targets`` names no layer of the model.
    """
    for module in model.modules():
        # Without dropout a step depends on weights and batch alone, and a fifth of a step's time on a CPU is saved.
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "attention_dropout"):
            setattr(module, "attention_dropout", 0.0)  # noqa: B010 -- torch's type hints forbid numbers as attributes
    if settings.gradient_checkpointing:
        model.backbone.gradient_checkpointing_enable({"use_reentrant": False})
        model.backbone.config.use_cache = False
    if settings.lora_rank:
        from reasonembed.embedder.lora import add_adapters

        model.backbone = add_adapters(
            model.backbone, settings.lora_rank, settings.lora_alpha, settings.lora_dropout, settings.lora_targets
        )
