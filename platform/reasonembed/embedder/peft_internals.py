"""Everything that this library uses of PEFT beyond its documented interface.

PEFT's documented ways of merging (``merge_and_unload``, ``merge_adapter``) change the live weights. A training that
continues after an export must have exactly the weights of one without the export, so the merged weights are computed
beside the live ones. ``tests/contract/test_peft_internals.py`` names the version of PEFT for which this holds.
"""

from typing import Any

import torch
from peft.tuners.lora import LoraLayer


def merged_state(backbone: Any) -> dict[str, torch.Tensor]:
    """Returns the state of the plain backbone with the adapters merged in; the live weights do not change.

    A merged weight is W + (alpha / r) B A (Hu et al., 2021, section 4.1), in the number format of W.

    Args:
        backbone: a ``peft.PeftModel`` with one LoRA adapter.

    Returns:
        New tensors under the names that they have in the plain backbone.
    """
    base = backbone.get_base_model()
    layers: dict[str, Any] = {name: module for name, module in base.named_modules() if isinstance(module, LoraLayer)}
    prefixes = tuple(f"{name}." for name in layers)
    state = {name: value.detach().clone() for name, value in base.state_dict().items() if not name.startswith(prefixes)}
    for prefix, layer in layers.items():
        [adapter] = layer.active_adapters
        for name, value in layer.get_base_layer().state_dict().items():
            tensor = value.detach()
            merged = tensor + layer.get_delta_weight(adapter).to(tensor) if name == "weight" else tensor.clone()
            state[f"{prefix}.{name}"] = merged
    return state
