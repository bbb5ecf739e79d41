"""The whole configuration, and its sections except those of the language model, of ReMixer and of training."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from reasonembed.config.language_model import Llm
from reasonembed.config.remixer_sections import Annotate, Clean, Generate, Rewrite
from reasonembed.config.resources import Cluster
from reasonembed.config.section import DISPLAY, INPUT, RESOURCES, Affects, Section
from reasonembed.config.train_section import Train


class Run(Section):
    """Location of a run's artifacts, and settings that all its stages share."""

    root: Annotated[str, RESOURCES] = "runs/quickstart"
    """Folder or ``s3://bucket/prefix``; every stage writes to ``<stage>/<fingerprint>/`` below it."""
    seed: int = 42
    """Random seed of sampling, shuffling and training."""
    actors: Annotated[int, RESOURCES] = Field(2, ge=1)
    """Number of workers in the actor pool of a stage that processes rows."""
    rows_per_block: Annotated[int, RESOURCES] = Field(256, ge=1)
    """Number of rows in a block; an interruption loses at most this many rows per actor."""
    max_reject_fraction: Annotated[float, RESOURCES] = Field(0.05, ge=0, le=1)
    """Largest fraction of rejected rows; a stage that rejects more of its rows fails."""


class Corpus(Section):
    """The documents from which training data is made."""

    source: Annotated[str, INPUT] = "pydocs"
    """Source of the documents: ``pydocs``, ``bright:<folder or hub id>``, ``beir:<folder>`` or ``files:<folder>``."""
    tasks: Annotated[list[str] | None, INPUT] = None
    """Tasks (domains) of the source to use; all of them when left out."""


class Mine(Section):
    """Candidate documents for every query, without its source document and the source's near-duplicates."""

    keep: int = Field(100, ge=2)
    """Number of candidates per query."""
    models: Annotated[list[str], INPUT] = Field(["base"], min_length=1)
    """Dense retrievers whose scores are averaged: ``base`` (``train.base_model``), folders or hub ids."""
    lexical_weight: float = Field(0.5, ge=0, le=1)
    """Share of BM25 in the fused score (0: dense only, 1: BM25 only)."""
    near_duplicate: float = Field(0.95, gt=0, le=1)
    """Smallest cosine to the source document's embedding at which a document is its near-duplicate."""


class Assemble(Section):
    """Conversion of graded pairs into training rows."""

    positive_grade: int = Field(3, ge=2, le=5)
    """Lowest grade of a positive; pairs with a lower grade are negatives."""
    group_size: int = Field(16, ge=2)
    """Number of passages per query, written into each row for trainers that read it."""
    batch_size: int = Field(8, ge=1)
    """Number of queries per GPU and step, written into each row for trainers that read it."""
    shapes: dict[str, tuple[int, int]] = {"leetcode": (2, 64), "pony": (64, 2)}
    """(Group size, batch size) of tasks that differ from the defaults; in the paper their product is always 128."""

    def shape(self, task: str) -> tuple[int, int]:
        """Returns (group size, batch size) of a task."""
        return self.shapes.get(task, (self.group_size, self.batch_size))


class Encode(Section):
    """Encoding of texts as vectors, in mining, index, evaluation and serving."""

    max_tokens: int = Field(8192, ge=8)
    """Largest number of tokens of a text; longer texts are cut."""
    batch_tokens: Annotated[int, RESOURCES] = Field(4096, ge=8)
    """Largest number of tokens in a batch, padding included."""
    instruct: Annotated[bool, Affects(stages=("train", "rank", "index"))] = False
    """Puts ``Instruct: {task}\\nQuery: `` before queries, also in training. For base models that were trained with
    this form."""
    pooling: Literal["auto", "mean", "cls", "lasttoken"] = "auto"
    """Pooling of token vectors, also in training. ``auto`` uses the pooling that the model's folder names; if it names
    none, ``lasttoken`` for a decoder and ``mean`` for an encoder."""
    trust_remote_code: Annotated[bool, RESOURCES] = False
    """Runs code that comes with a model. Only for models whose code you have read."""


class Index(Section):
    """The vector index that is served; its score is the inner product of unit vectors."""

    model: Annotated[str, INPUT] = "trained"
    """Model that encodes the documents: ``trained``, ``base``, a folder or a hub id."""
    kind: Literal["flat", "ivf", "hnsw", "ivf-pq"] = "flat"
    """``flat`` is exact: it compares a query with every document. ``ivf`` searches the nearest of many lists, ``hnsw``
    searches a graph, and ``ivf-pq`` compresses vectors to ``pq_bytes``, for corpora that are larger than memory."""
    shards: int = Field(1, ge=1)
    """Number of parts, which are built separately and can be searched by separate processes."""
    lists: int | None = Field(None, ge=1)
    """``ivf`` and ``ivf-pq``: number of lists per shard; when left out, four times the square root of the number of its
    documents."""
    probes: int = Field(16, ge=1)
    """``ivf`` and ``ivf-pq``: number of lists that are searched for a query."""
    links: int = Field(32, ge=2)
    """``hnsw``: number of links of a document in the graph."""
    ef_construction: int = Field(200, ge=1)
    """``hnsw``: size of the candidate list while the graph is built; a larger one makes a better graph more slowly."""
    ef_search: int = Field(64, ge=1)
    """``hnsw``: size of the candidate list while the graph is searched."""
    pq_bytes: int = Field(64, ge=1)
    """``ivf-pq``: largest number of bytes of a compressed vector; the largest number up to it that divides the
    dimension is used."""
    training_vectors: int = Field(200_000, ge=256)
    """``ivf`` and ``ivf-pq``: largest number of documents per shard that lists and codes are trained on."""
    bm25: bool = True
    """Stores BM25 weights beside the vectors, for lexical and hybrid searches."""
    recall_sample: int = Field(500, ge=1)
    """Number of documents that are used as queries to measure the recall@10 of the index against exact search."""


class Evaluate(Section):
    """Evaluation of retrieval systems on a benchmark."""

    benchmark: Annotated[str | None, INPUT] = None
    """Source of documents and questions, as in ``corpus.source``; when left out, the corpus with its own questions."""
    split: Annotated[Literal["dev", "test"], INPUT] = "test"
    """Set of questions to evaluate, for ``pydocs`` and BEIR; the other benchmarks have only a test set."""
    tasks: Annotated[list[str] | None, INPUT] = None
    """Tasks to evaluate; all of them when left out."""
    queries: Annotated[str, INPUT] = "original"
    """Form of the queries: ``original``; ``rewritten`` by the language model, as in ReMixer; or the name of a set of
    rewritten queries that is part of BRIGHT, such as ``gpt4_reason``."""
    model: Annotated[str | list[str], INPUT] = "base"
    """System to evaluate: ``bm25``, ``bm25-query-side``, ``base``, ``trained``, a folder or a hub id. The rankings of
    several systems are fused."""
    fusion: Annotated[Literal["minmax", "rrf"], INPUT] = "minmax"
    """``minmax``: weighted sum of the scores, scaled to [0, 1] for each query. ``rrf``: reciprocal rank fusion (Cormack
    et al., 2009)."""
    fusion_weights: Annotated[list[float] | None, INPUT] = None
    """Weights of the systems in ``model``, in their order; equal weights when left out."""
    run: Annotated[str | None, INPUT] = None
    """TREC run file to evaluate instead of a system."""
    qrels: Annotated[str | None, INPUT] = None
    """File with the qrels of ``run``, in TREC's or BEIR's format; the benchmark's qrels when left out."""
    baseline: Annotated[str | None, INPUT] = None
    """System, or TREC run file, that the results are compared with; no comparison when left out."""
    bootstrap: int = Field(2000, ge=100)
    """Number of bootstrap samples for the 95 % confidence intervals."""
    permutations: int = Field(10_000, ge=100)
    """Number of random sign changes for the p-values."""

    @property
    def systems(self) -> tuple[str, ...]:
        """Systems to evaluate; several are fused into one."""
        return (self.model,) if isinstance(self.model, str) else tuple(self.model)

    @model_validator(mode="after")
    def _check_systems(self) -> "Evaluate":
        if not self.systems:
            raise ValueError("evaluate.model is an empty list; name at least one system")
        if self.fusion_weights is not None and len(self.fusion_weights) != len(self.systems):
            raise ValueError(
                f"evaluate.fusion_weights has {len(self.fusion_weights)} numbers for the {len(self.systems)} systems "
                "of evaluate.model"
            )
        if self.qrels and not self.run:
            raise ValueError("evaluate.qrels needs evaluate.run; a system is evaluated with the benchmark's own qrels")
        return self


class Export(Section):
    """Export of training rows for other tools."""

    affects: ClassVar[Affects] = DISPLAY

    format: Literal["jsonl", "datasets"] = "jsonl"
    """``jsonl``: the layout of the published data set. ``datasets``: a Hugging Face ``datasets`` folder with the
    columns anchor, positive, negative_1, ..., which Sentence Transformers' trainer reads."""
    to: str = "export"
    """Folder or ``s3://bucket/prefix`` to write; it must be empty."""
    negatives: int = Field(7, ge=1)
    """``datasets``: number of negatives per row."""


class Plan(Section):
    """Assumptions of the cost estimate (``jobs/plan.py``)."""

    affects: ClassVar[Affects] = DISPLAY

    sample: int = Field(0, ge=0)
    """Number of source documents on which tokens and throughput are measured with the configured engine; 0 measures
    nothing."""
    gpu: Literal["H200", "H100", "A100", "L40S", "L4"] = "H100"
    """GPU for which throughput is estimated, unless it is configured or measured."""
    input_tokens_per_second: float | None = Field(None, gt=0)
    """Prompt tokens per second that one actor processes; estimated when left out."""
    output_tokens_per_second: float | None = Field(None, gt=0)
    """Answer tokens per second that one actor generates; estimated when left out."""
    price_per_gpu_hour: float | None = Field(None, ge=0)
    """Price of one GPU-hour in any currency; the estimate includes the cost only if this is set."""


class Serve(Section):
    """The HTTP endpoint. ``requests_per_minute`` and ``waiting`` apply to each gateway; several gateways together allow
    a multiple of them. The other limits apply to each request."""

    affects: ClassVar[Affects] = RESOURCES

    host: str = "127.0.0.1"
    """Address to listen on; any address but the machine's loopback address needs API keys."""
    allowed_hosts: list[str] = []
    """Names that the ``Host`` header of a request may contain if there are no API keys, in addition to ``host``,
    ``localhost`` and the loopback addresses. Other names are refused, because a web page can let its own name point to
    this machine."""
    port: int = Field(8000, ge=1, le=65535)
    """Port to listen on."""
    index: str | None = None
    """Folder of a finished index. When left out, the index that the pointer ``<run.root>/index/latest`` names, which is
    replaced when the pointer changes."""
    poll_seconds: float = Field(5, gt=0)
    """Seconds between two checks of the pointer and, at least one second apart, of ``keys_file``."""
    engine: Literal["transformers", "vllm"] = "transformers"
    """Engine that runs the model."""
    gpu_memory: float = Field(0.9, gt=0, le=1)
    """``vllm``: fraction of the GPU's memory that the engine may use."""
    encoders: int = Field(1, ge=0)
    """Number of replicas of the model. 0: every gateway runs the model itself, which saves a transfer between processes
    for each request."""
    gateways: int = Field(1, ge=1)
    """Number of replicas that answer HTTP requests; each has the whole index in memory, unless ``search_shards`` is
    set."""
    search_shards: int = Field(0, ge=0)
    """Number of processes among which the shards of the index are divided, at most the number of shards. 0: the
    gateways search the index themselves."""
    batch_tokens: int = Field(4096, ge=8)
    """Largest number of tokens in a batch, which may contain texts of several requests."""
    keys_file: str | None = None
    """File with one API key per line, as ``name: key``; it is read again when it changes. When left out, such lines are
    read from the environment variable ``SERVE_API_KEYS``."""
    requests_per_minute: int = Field(0, ge=0)
    """Largest number of requests per minute with one key; 0: no limit."""
    body_bytes: int = Field(4 << 20, ge=1024)
    """Largest size of a request in bytes."""
    texts: int = Field(256, ge=1)
    """Largest number of texts in a request."""
    hits: int = Field(10_000, ge=1)
    """Largest number of documents that a search may request: its questions times ``top_k``."""
    bm25_chars: int = Field(65_536, ge=1)
    """Largest number of characters in all questions of a search by BM25."""
    response_bytes: int = Field(32 << 20, ge=1024)
    """Largest size of a response in bytes."""
    tokens: int = Field(65_536, ge=8)
    """Largest number of tokens in a request, counted after each text was cut to the model's limit."""
    waiting: int = Field(512, ge=1)
    """Largest number of texts that wait, are being encoded or are searched by BM25; further requests are refused until
    there are fewer."""
    timeout_seconds: float = Field(30, gt=0)
    """Time limit of a request in seconds; a request that takes longer is refused."""
    log_queries: bool = False
    """Writes the queries into the log."""


class Config(Section):
    """The whole configuration; every section has defaults."""

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
    def _check_models(self) -> "Config":
        if self.llm.engine == "extractive":
            if self.clean.enabled:
                raise ValueError("clean.enabled needs a language model: set llm.engine to vllm or http")
            return self
        for name in ("generate", "rewrite", "annotate"):
            if not (getattr(self, name).model or self.llm.model):
                raise ValueError(f"llm.model is needed by llm.engine {self.llm.engine}; set it, or {name}.model")
        return self
