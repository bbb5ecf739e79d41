"""LoRA adapters on the backbone, and the weights with the adapters merged in."""

from collections.abc import Sequence
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn

from reasonembed.errors import UserError

WRAPPER, INNER = "base_model.model.", ".base_layer"


def add_adapters(backbone: nn.Module, rank: int, alpha: int, dropout: float, targets: Sequence[str]) -> nn.Module:
    """The backbone with its weights frozen and an adapter beside every target layer.

    Raises:
        UserError: no layer has such a name.
    """
    config = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(targets), task_type="FEATURE_EXTRACTION"
    )
    try:
        return get_peft_model(backbone, config)  # type: ignore[arg-type]
    except ValueError:
        linear = {name.rsplit(".", 1)[-1] for name, module in backbone.named_modules() if isinstance(module, nn.Linear)}
        raise UserError(
            f"train.lora_targets: the model has no layer named {' or '.join(targets)}; its linear layers end in "
            f"{', '.join(sorted(linear))}"
        ) from None


def merged_weights(backbone: nn.Module) -> dict[str, torch.Tensor]:
    """The state of the plain backbone, adapters added in; the live weights stay as they are.

    Merging and unmerging them in place would leave rounding behind, and a training that goes on would no longer be the
    one without the export.
    """
    deltas: dict[str, torch.Tensor] = {}
    for name, module in backbone.named_modules():
        if isinstance(module, LoraLayer):
            layer: Any = module
            deltas[name.removeprefix(WRAPPER) + ".weight"] = layer.get_delta_weight("default")
    state = {}
    for name, value in backbone.state_dict().items():
        if "lora_" not in name:
            plain = name.removeprefix(WRAPPER).replace(INNER, "")
            state[plain] = value.detach() + deltas[plain].to(value) if plain in deltas else value.detach().clone()
    return state
