"""LoRA adapters on the linear layers of a backbone (Hu et al., 2021, arXiv 2106.09685)."""

from collections.abc import Sequence

from peft import LoraConfig, get_peft_model
from torch import nn

from reasonembed.errors import UserError


def add_adapters(backbone: nn.Module, rank: int, alpha: int, dropout: float, targets: Sequence[str]) -> nn.Module:
    """Freezes the weights of the backbone and adds an adapter to every target layer.

    Args:
        backbone: a ``transformers`` model.
        rank: rank r of the two factors of an adapter.
        alpha: an adapter's output is scaled by alpha / r.
        dropout: probability with which an input of an adapter is set to zero in training.
        targets: ends of the names of the layers.

    Returns:
        The backbone inside a ``peft.PeftModel``.

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
