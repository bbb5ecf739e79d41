"""What a training would take, before it is run: parameters, steps, tokens, and memory per GPU by arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel

from reasonembed.config import Encode, Train
from reasonembed.embedder.model_source import resolve
from reasonembed.errors import UserError
from reasonembed.redapter.batch_plan import Step

# So that a plan needs neither weights nor a hub: the shapes that these models' own config files state.
KNOWN: dict[str, dict[str, Any]] = {
    "Qwen/Qwen3-4B": {
        "model_type": "qwen3",
        "vocab_size": 151936,
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
    },
    "Qwen/Qwen3-8B": {
        "model_type": "qwen3",
        "vocab_size": 151936,
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
    },
    "meta-llama/Llama-3.1-8B": {
        "model_type": "llama",
        "vocab_size": 128256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
    },
}
# Bytes that AdamW keeps of a trained weight: its two moments, and beside a bfloat16 the weight in full.
MOMENTS, MASTER = 8, 4


@dataclass(frozen=True)
class Shape:
    """Of a model: parameters and, per layer, what a token leaves behind for the backward pass."""

    parameters: int
    trained: int
    layers: int
    hidden: int
    feed_forward: int
    key_values: int


@dataclass(frozen=True)
class Memory:
    """Bytes per GPU."""

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations


def model_shape(settings: Train, encode: Encode) -> Shape:
    """Built without weights (torch's meta device).

    Raises:
        UserError: the model's config cannot be had, or ``train.lora_targets`` names no layer.
    """
    from reasonembed.embedder.model import Embedder
    from reasonembed.redapter.engines.factory import prepare

    config = _config(settings.base_model, encode.trust_remote_code)
    with torch.device("meta"):
        model = Embedder(AutoModel.from_config(config), None, "mean", {})
        prepare(model, settings)
    parameters = list(model.parameters())
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Shape(
        parameters=sum(p.numel() for p in parameters),
        trained=sum(p.numel() for p in parameters if p.requires_grad),
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        feed_forward=config.intermediate_size,
        key_values=2 * heads * head,
    )


def _config(name: str, trust_remote_code: bool) -> Any:
    place = resolve(name)
    if not Path(place).is_dir() and place in KNOWN:
        shape = dict(KNOWN[place])
        return AutoConfig.for_model(shape.pop("model_type"), **shape)
    try:
        return AutoConfig.from_pretrained(place, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"model {name}: its config.json cannot be read: {reason}") from None


def memory_per_gpu(shape: Shape, settings: Train) -> Memory:
    """Weights, gradients and optimiser by ZeRO stage (Rajbhandari et al., 2020, figure 1); activations as attention
    without stored scores leaves them. CUDA's own share and fragmentation come on top.

    A token leaves in a layer the inputs of the two norms, queries, keys, values, attention's output, and the input and
    inner vectors of the feed-forward; with gradient checkpointing the layer's input, and one layer in full at a time.
    """
    size = 2 if settings.dtype == "bfloat16" else 4
    sharded = [settings.workers if settings.zero_stage >= stage else 1 for stage in (1, 2, 3)]
    kept = MOMENTS + (MASTER if size == 2 else 0)
    queries = -(-settings.batch_size // settings.workers)
    step_tokens = queries * (1 + settings.group_size) * settings.max_tokens
    live = min(step_tokens, settings.batch_tokens) if settings.grad_cache else step_tokens
    layer = size * (6 * shape.hidden + shape.key_values + 4 * shape.feed_forward)
    if settings.gradient_checkpointing:
        activations = live * shape.layers * shape.hidden * size + min(live, settings.batch_tokens) * layer
    else:
        activations = live * shape.layers * layer
    return Memory(
        weights=shape.parameters * size // sharded[2],
        gradients=shape.trained * size // sharded[1],
        optimizer=shape.trained * kept // sharded[0],
        activations=activations,
    )


def texts_of(steps: Sequence[Step]) -> int:
    """Texts that go through the model: queries, rewrites and passages."""
    return sum(len(step.query_ids) * (2 + step.group_size) for step in steps)
