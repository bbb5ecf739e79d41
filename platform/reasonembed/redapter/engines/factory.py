"""The embedder made ready for training, inside the engine that the settings name."""

import torch

from reasonembed.config import Train
from reasonembed.embedder.model import Embedder
from reasonembed.redapter.engines.training_engine import TrainingEngine


def create_engine(model: Embedder, settings: Train) -> TrainingEngine:
    """Wrap the embedder; where there are several ranks, their process group must be up.

    Raises:
        UserError: ``train.lora_targets`` names no layer of the model.
    """
    prepare(model, settings)
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


def prepare(model: Embedder, settings: Train) -> None:
    """Dropout off, gradient checkpointing and LoRA as the settings say."""
    for module in model.modules():
        # Without it a step is a function of weights and batch alone, and its random numbers cost a fifth of a CPU step.
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "attention_dropout"):
            setattr(module, "attention_dropout", 0.0)  # noqa: B010 -- a number on a module, which torch's types forbid
    if settings.gradient_checkpointing:
        model.backbone.gradient_checkpointing_enable({"use_reentrant": False})
        model.backbone.config.use_cache = False
    if settings.lora_rank:
        from reasonembed.embedder.lora import add_adapters

        model.backbone = add_adapters(
            model.backbone, settings.lora_rank, settings.lora_alpha, settings.lora_dropout, settings.lora_targets
        )
