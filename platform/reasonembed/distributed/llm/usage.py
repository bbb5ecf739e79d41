"""Usage of an LLM stage: rows, tokens, throughput and prefix-cache hits, in the terminal and in the record."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import ray
import requests
from prometheus_client.parser import text_string_to_metric_families

from reasonembed.distributed.cluster import on_driver_node
from reasonembed.distributed.llm.outage import batch_failure, report_outage
from reasonembed.distributed.progress import progress_bar
from reasonembed.llm.circuit_breaker import engine_unavailable
from reasonembed.llm.reject_reasons import is_transport

SCRAPE_SECONDS = 5.0
PREFIX_CACHE_METRICS = {"queries": "ray_vllm_prefix_cache_queries", "hits": "ray_vllm_prefix_cache_hits"}


@dataclass
class UsageCounts:
    """Counts of one attempt in this run; rows of an earlier, interrupted run are not included."""

    rows: int = 0
    rejected: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    first_time: float | None = None
    """Time of the first rows, in seconds since the epoch: the start of the engines does not count."""
    last_time: float | None = None
    first_rows: int = 0

    def add(self, rows: int, rejected: int, input_tokens: int, output_tokens: int) -> None:
        """Adds the counts of a batch."""
        self.rows += rows
        self.rejected += rejected
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens
        self.last_time = time.time()
        if self.first_time is None:
            self.first_time, self.first_rows = self.last_time, rows

    @property
    def rows_per_second(self) -> float | None:
        """Throughput without the first rows, which include the engines' start."""
        if self.first_time is None or self.last_time is None or self.last_time <= self.first_time:
            return None
        return (self.rows - self.first_rows) / (self.last_time - self.first_time)


@ray.remote(num_cpus=0)
class _UsageActor:
    """Counts what all workers report, and holds the first outage that one of them reports."""

    def __init__(self) -> None:
        self._counts = UsageCounts()
        self._outage: str | None = None

    def add(self, *counts: int) -> None:
        self._counts.add(*counts)

    def counts(self) -> UsageCounts:
        return self._counts

    def report_outage(self, message: str) -> None:
        self._outage = self._outage or message

    def outage(self) -> str | None:
        return self._outage


class UsageReporter:
    """Last step before vLLM's rows are written: casts a batch to its schema and reports its usage.

    Args:
        schema: of the intermediate files.
        usage: handle of the counting actor; None to count nothing.
    """

    def __init__(self, schema: pa.Schema, usage: Any) -> None:
        self._schema, self._usage = schema, usage

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Returns the batch with the schema's columns and types, without the rows that wait for a working engine."""
        table = batch.select(self._schema.names).cast(self._schema)
        reasons = table["reject_reason"].to_pylist()
        if problem := batch_failure(reasons):
            ray.get(report_outage(engine_unavailable("llm.engine vllm", problem), self._usage))
            table = table.filter(pa.array([not is_transport(reason) for reason in reasons], pa.bool_()))
        return report_usage(table, self._usage)


def report_usage(table: pa.Table, usage: Any) -> pa.Table:
    """Reports the rows and tokens of a table to the counting actor and returns the table."""
    if usage is not None and table.num_rows:
        rejected = table.num_rows - table["reject_reason"].null_count
        tokens = [sum(filter(None, table[name].to_pylist())) for name in ("input_tokens", "output_tokens")]
        usage.add.remote(table.num_rows, rejected, *tokens)
    return table


@dataclass
class StageUsage:
    """Usage of one attempt of a stage.

    Args:
        name: of the stage.
        total: rows of this attempt that are not written yet.
        gpus: of all engines together; 0 without GPUs.
    """

    name: str
    total: int
    gpus: int
    actor: Any = field(default_factory=lambda: _UsageActor.options(**on_driver_node()).remote())  # type: ignore[attr-defined]
    started: float = field(default_factory=time.time)
    counts: UsageCounts = field(default_factory=UsageCounts)
    prefix_cache: dict[str, float] = field(default_factory=dict)
    """Tokens that the engines looked up in their prefix caches and found there, by kind and engine."""
    prefix_cache_before: dict[str, float] = field(default_factory=dict)
    """The same at the start, because Ray still reports the engines of finished stages."""

    def figures(self) -> dict[str, Any]:
        """Returns figures for the artifact's record."""
        seconds = (self.counts.last_time or self.started) - self.started
        rate = self.counts.rows_per_second
        figures: dict[str, Any] = {"rows_per_second": None if rate is None else round(rate, 2)}
        if (hit_rate := self.hit_rate()) is not None:
            figures["prefix_cache_hit_rate"] = round(hit_rate, 4)
        if self.gpus:
            figures["gpu_hours"] = round(self.gpus * seconds / 3600, 4)
        return figures

    def hit_rate(self) -> float | None:
        """Returns the share of looked-up tokens that were in a prefix cache; None where none was looked up."""
        sums = {"queries": 0.0, "hits": 0.0}
        for key, value in self.prefix_cache.items():
            sums[key.split()[0]] += value - self.prefix_cache_before.get(key, 0.0)
        return sums["hits"] / sums["queries"] if sums["queries"] else None

    def line(self) -> str:
        """Returns the text beside the progress bar."""
        counts = self.counts
        parts = [self.name]
        if rate := counts.rows_per_second:
            parts.append(f"{rate:,.1f} rows/s")
            if self.gpus:
                remaining = self.gpus * (self.total - counts.rows) / rate / 3600
                parts.append(f"{remaining:,.2f} GPU-hours left")
        if counts.input_tokens:
            parts.append(f"{_short(counts.input_tokens)} tokens in, {_short(counts.output_tokens)} out")
        if counts.rejected:
            parts.append(f"{counts.rejected:,} rejected")
        return ", ".join(parts)

    def refresh(self) -> None:
        """Gets the workers' counts."""
        self.counts = ray.get(self.actor.counts.remote(), timeout=5)

    def scrape(self) -> None:
        """Reads vLLM's counters from Ray's metrics of every node; those of a dead engine keep their last value."""
        for node in ray.nodes():
            if not node["Alive"]:
                continue
            url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
            try:
                page = requests.get(url, timeout=3).text
            except requests.RequestException:
                continue
            self.prefix_cache |= prefix_cache_counters(page)


def prefix_cache_counters(page: str) -> dict[str, float]:
    """Returns vLLM's prefix-cache counters of a page in Prometheus' text format, by kind and labels."""
    counters = {}
    for family in text_string_to_metric_families(page):
        for kind, metric in PREFIX_CACHE_METRICS.items():
            if family.name == metric:
                for sample in family.samples:
                    labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
                    counters[f"{kind} {labels}"] = float(sample.value)
    return counters


@contextmanager
def tracked_usage(name: str, total: int, gpus: int, has_metrics: bool) -> Iterator[StageUsage]:
    """Shows a stage's usage in the terminal while the block runs.

    Args:
        name: of the stage.
        total: rows to work on.
        gpus: of all engines together.
        has_metrics: the engines export vLLM's metrics.
    """
    usage = StageUsage(name, total, gpus)
    if has_metrics:
        usage.scrape()
        usage.prefix_cache_before = dict(usage.prefix_cache)
    last_scrape = time.time()

    def progress() -> tuple[int, str]:
        nonlocal last_scrape
        usage.refresh()
        if has_metrics and time.time() - last_scrape >= SCRAPE_SECONDS:
            usage.scrape()
            last_scrape = time.time()
        return usage.counts.rows, usage.line()

    with progress_bar(name, total, progress):
        yield usage
        usage.refresh()
        if has_metrics:
            usage.scrape()


def _short(number: int) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return str(number)
