"""Estimates of a training before it runs: parameters, texts, and memory per GPU by arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel

from reasonembed.config import Encode, Train
from reasonembed.embedder.model_source import resolve
from reasonembed.errors import UserError
from reasonembed.redapter.batch_plan import TrainingStep

# The shapes in the config files of these models, so that an estimate needs neither weights nor a connection to the hub.
KNOWN_CONFIGS: dict[str, dict[str, Any]] = {
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
# Bytes per trained weight in AdamW's state: two float32 moments, and a float32 copy of the weight if it is bfloat16.
MOMENT_BYTES, MASTER_COPY_BYTES = 8, 4


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a model that decide its memory in training.

    Args:
        parameters: number of all parameters.
        trained: number of trained parameters.
        layers: number of layers.
        hidden: numbers in a token's state.
        feed_forward: numbers in the inner vector of the feed-forward network.
        key_values: numbers in a token's keys and values together.
    """

    parameters: int
    trained: int
    layers: int
    hidden: int
    feed_forward: int
    key_values: int


@dataclass(frozen=True)
class MemoryEstimate:
    """Memory of a training in bytes per GPU."""

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """Bytes per GPU of all parts together."""
        return self.weights + self.gradients + self.optimizer + self.activations


def model_shape(settings: Train, encode: Encode) -> ModelShape:
    """Returns the shape of the model to be trained, which is built without weights (on torch's meta device).

    Raises:
        UserError: the model's config cannot be read, or ``train.lora_targets`` names no layer.
    """
    from reasonembed.embedder.model import Embedder
    from reasonembed.redapter.engines.factory import prepare_model

    config = _model_config(settings.base_model, encode.trust_remote_code)
    with torch.device("meta"):
        model = Embedder(AutoModel.from_config(config), None, "mean", {})
        prepare_model(model, settings)
    parameters = list(model.parameters())
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return ModelShape(
        parameters=sum(p.numel() for p in parameters),
        trained=sum(p.numel() for p in parameters if p.requires_grad),
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        feed_forward=config.intermediate_size,
        key_values=2 * heads * head,
    )


def _model_config(name: str, trust_remote_code: bool) -> Any:
    source = resolve(name)
    if not Path(source).is_dir() and source in KNOWN_CONFIGS:
        values = dict(KNOWN_CONFIGS[source])
        return AutoConfig.for_model(values.pop("model_type"), **values)
    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"model {name}: its config.json cannot be read: {reason}") from None


def memory_per_gpu(shape: ModelShape, settings: Train) -> MemoryEstimate:
    """Estimates the memory of a training.

    Weights, gradients and optimiser state follow the ZeRO stage (Rajbhandari et al., 2020, arXiv 1910.02054, figure 1).
    Activations are counted for an attention that does not store its scores. In each layer, a token stores the inputs of
    the two norms, queries, keys, values, the output of attention, and the input and inner vectors of the feed-forward
    network. With gradient checkpointing it stores the layer's input, and one layer at a time in full. Memory that CUDA
    itself needs, and fragmentation, are not included.

    Args:
        shape: of the model.
        settings: of training.
    """
    number_bytes = 2 if settings.dtype == "bfloat16" else 4
    optimizer_bytes = MOMENT_BYTES + (MASTER_COPY_BYTES if number_bytes == 2 else 0)
    # The number of ranks over which optimiser state (stage 1), gradients (2) and weights (3) are sharded.
    optimizer_ranks, gradient_ranks, weight_ranks = (
        settings.workers if settings.zero_stage >= stage else 1 for stage in (1, 2, 3)
    )
    queries = -(-settings.batch_size // settings.workers)
    step_tokens = queries * (1 + settings.group_size) * settings.max_tokens
    graph_tokens = min(step_tokens, settings.batch_tokens) if settings.grad_cache else step_tokens
    layer_bytes = number_bytes * (6 * shape.hidden + shape.key_values + 4 * shape.feed_forward)  # per token
    if settings.gradient_checkpointing:
        inputs = graph_tokens * shape.layers * shape.hidden * number_bytes
        activations = inputs + min(graph_tokens, settings.batch_tokens) * layer_bytes
    else:
        activations = graph_tokens * shape.layers * layer_bytes
    return MemoryEstimate(
        weights=shape.parameters * number_bytes // weight_ranks,
        gradients=shape.trained * number_bytes // gradient_ranks,
        optimizer=shape.trained * optimizer_bytes // optimizer_ranks,
        activations=activations,
    )


def count_texts(steps: Sequence[TrainingStep]) -> int:
    """Returns the number of texts that the model encodes in training: queries, rewrites and passages."""
    return sum(len(step.query_ids) * (2 + step.group_size) for step in steps)
