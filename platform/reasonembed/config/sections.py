"""The sections of a configuration, but for those of the language model, of ReMixer and of training."""

from typing import Literal

from pydantic import Field, model_validator

from reasonembed.config.language_model import Llm
from reasonembed.config.remixer_sections import Annotate, Clean, Generate, Rewrite
from reasonembed.config.resources import Cluster
from reasonembed.config.section import Section
from reasonembed.config.train_section import Train


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


class Encode(Section):
    """How texts become vectors outside training (mining, index, evaluation, serving)."""

    max_tokens: int = Field(8192, ge=8)
    """Longer texts are cut."""
    batch_tokens: int = Field(4096, ge=8)
    """Tokens in a batch, padding included."""
    instruct: bool = False
    """Put ``Instruct: {task}\\nQuery: `` before queries, in training too: for a base model that was tuned with it."""
    pooling: Literal["auto", "mean", "cls", "lasttoken"] = "auto"
    """In training too. ``auto``: what the folder says, else a decoder's last token, the mean of an encoder's."""
    trust_remote_code: bool = False
    """Run code that comes with a model. Off unless you have read it."""


class Index(Section):
    """The FAISS index that is served; inner product of unit vectors."""

    model: str = "trained"
    """``trained``, ``base``, a folder or a hub id."""
    kind: Literal["flat", "ivf", "hnsw", "ivf-pq"] = "flat"
    """``flat`` is exact: it compares a query with every document. ``ivf`` looks into the nearest of many lists,
    ``hnsw`` walks a graph; ``ivf-pq`` keeps ``pq_bytes`` of a vector, for corpora that are larger than memory."""
    shards: int = Field(1, ge=1)
    """Parts that are built, and can be searched, apart."""
    lists: int | None = Field(None, ge=1)
    """Of ``ivf`` and ``ivf-pq``, per shard; four times the root of its documents when left out."""
    probes: int = Field(16, ge=1)
    """Lists that a query looks into."""
    links: int = Field(32, ge=2)
    """Of a document in the graph of ``hnsw``."""
    ef_construction: int = Field(200, ge=1)
    """Documents kept in sight while the graph is built; more make it better and slower to build."""
    ef_search: int = Field(64, ge=1)
    """Documents kept in sight while the graph is searched."""
    pq_bytes: int = Field(64, ge=1)
    """Bytes of a compressed vector; the largest number below that divides the dimension is taken."""
    training_vectors: int = Field(200_000, ge=256)
    """Documents that lists and codes are learnt from."""
    bm25: bool = True
    """Keep BM25 weights beside the vectors, for searches by words and for hybrid ones."""
    recall_sample: int = Field(500, ge=1)
    """Documents whose ten nearest are looked up, to say how many of the true ones the index finds."""


class Evaluate(Section):
    """nDCG and friends on a benchmark."""

    benchmark: str | None = None
    """As ``corpus.source``; the corpus's own questions when left out."""
    split: Literal["dev", "test"] = "test"
    """Of ``pydocs`` and BEIR; the others have a test set only."""
    tasks: list[str] | None = None
    """The tasks to evaluate; all of them when left out."""
    queries: str = "original"
    """``original``; ``rewritten`` by the language model, as ReMixer's rewrites are; or a set of rewritten queries that
    BRIGHT carries (``gpt4_reason``, say)."""
    model: str | list[str] = "base"
    """``bm25``, ``bm25-query-side``, ``base``, ``trained``, a folder or a hub id. Several are fused."""
    fusion: Literal["minmax", "rrf"] = "minmax"
    """Weighted sum of scores, each query's stretched to [0, 1]; or reciprocal rank fusion (Cormack et al., 2009)."""
    fusion_weights: list[float] | None = None
    """Of the systems in ``model``; all alike when left out."""
    run: str | None = None
    """A TREC run file to measure instead of a system."""
    qrels: str | None = None
    """A file with the judgements to measure it by (TREC's or BEIR's form) instead of a benchmark's."""
    baseline: str | None = None
    """Compare with this system, or with the run in this file."""
    bootstrap: int = Field(2000, ge=100)
    """Resamples behind the 95 % intervals."""
    permutations: int = Field(10_000, ge=100)
    """Sign changes behind the p-values."""

    @property
    def systems(self) -> tuple[str, ...]:
        """What is measured, or fused and then measured."""
        return (self.model,) if isinstance(self.model, str) else tuple(self.model)

    @model_validator(mode="after")
    def _parts_fit(self) -> "Evaluate":
        if not self.systems:
            raise ValueError("evaluate.model is an empty list")
        if self.fusion_weights is not None and len(self.fusion_weights) != len(self.systems):
            raise ValueError(
                f"evaluate.fusion_weights has {len(self.fusion_weights)} numbers for the {len(self.systems)} systems "
                "of evaluate.model"
            )
        if self.qrels and not self.run:
            raise ValueError("evaluate.qrels needs evaluate.run; a benchmark brings its own judgements for a system")
        return self


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
    """What throughput is estimated_throughput for where it is neither given nor measured."""
    input_tokens_per_second: float | None = Field(None, gt=0)
    """Prompt tokens that one actor reads in a second; estimated_throughput when left out."""
    output_tokens_per_second: float | None = Field(None, gt=0)
    """Tokens that one actor writes in a second; estimated_throughput when left out."""
    price_per_gpu_hour: float | None = Field(None, ge=0)
    """In any currency; the plan then names the cost too."""


class Serve(Section):
    """The endpoint. Limits are those of one gateway; with several gateways the endpoint takes as many times more."""

    host: str = "127.0.0.1"
    """Any other than this machine's own address needs keys."""
    port: int = Field(8000, ge=1, le=65535)
    index: str | None = None
    """Folder of a finished index. When left out, what ``<run.root>/index/latest`` names, now and after it changes."""
    poll_seconds: float = Field(5, gt=0)
    """How often ``latest`` is looked at."""
    engine: Literal["transformers", "vllm"] = "transformers"
    """What runs the model."""
    gpu_memory: float = Field(0.9, gt=0, le=1)
    """Share of a GPU's memory for ``engine: vllm``."""
    encoders: int = Field(1, ge=0)
    """Replicas of the model. 0: every gateway runs it itself, which saves a small model on CPUs the way there."""
    gateways: int = Field(1, ge=1)
    """Replicas of what answers HTTP; each holds the index, unless ``search_shards`` do."""
    search_shards: int = Field(0, ge=0)
    """Deployments that share the index between them; at most as many as it has shards. 0: the gateways hold it."""
    batch_tokens: int = Field(4096, ge=8)
    """Tokens that are encoded together at most, of however many requests."""
    keys_file: str | None = None
    """A file with a ``name: key`` on each line; ``SERVE_API_KEYS`` holds such lines otherwise."""
    requests_per_minute: int = Field(0, ge=0)
    """Of one key; 0: no limit."""
    body_bytes: int = Field(4 << 20, ge=1024)
    """Larger requests are refused."""
    texts: int = Field(256, ge=1)
    """Of one request."""
    tokens: int = Field(65_536, ge=8)
    """Of one request, after each text was cut at the model's limit."""
    waiting: int = Field(512, ge=1)
    """Texts that wait or are being encoded; when there are more, requests are refused until there are fewer."""
    timeout_seconds: float = Field(30, gt=0)
    """A request that is not answered by then is refused."""
    log_queries: bool = False
    """Write what people ask into the log."""


class Config(Section):
    run: Run = Run()
    cluster: Cluster = Cluster()
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
    def _every_stage_has_a_model(self) -> "Config":
        if self.llm.engine == "extractive":
            if self.clean.enabled:
                raise ValueError("clean.enabled needs a language model: set llm.engine to vllm or http")
            return self
        for name in ("generate", "rewrite", "annotate"):
            if not (getattr(self, name).model or self.llm.model):
                raise ValueError(f"llm.model is needed by llm.engine {self.llm.engine}")
        return self
