"""What a stage that asks a language model has done so far, in the terminal and for the record."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import ray
import requests

from reasonembed.distributed.cluster import on_driver_node
from reasonembed.distributed.progress import progress_bar

SCRAPE_SECONDS = 5.0
PREFIX_CACHE = re.compile(r"^ray_vllm_prefix_cache_(queries|hits)(?:_total)?\{([^}]*)\} ([0-9.e+]+)$", re.MULTILINE)


@dataclass
class Tally:
    """Counts of one stage in this process's run of it; what an earlier, interrupted run did is not in it."""

    rows: int = 0
    rejected: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    first: float | None = None
    """Time (seconds since the epoch) of the first rows, and of the last below: the start of engines is not counted."""
    last: float | None = None
    first_rows: int = 0

    def add(self, rows: int, rejected: int, input_tokens: int, output_tokens: int) -> None:
        self.rows += rows
        self.rejected += rejected
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens
        self.last = time.time()
        if self.first is None:
            self.first, self.first_rows = self.last, rows

    @property
    def rows_per_second(self) -> float | None:
        """Steady state: the first rows, which waited for the engine, are left out."""
        if self.first is None or self.last is None or self.last <= self.first:
            return None
        return (self.rows - self.first_rows) / (self.last - self.first)


@ray.remote(num_cpus=0)
class _Counter:
    def __init__(self) -> None:
        self._tally = Tally()

    def add(self, *counts: int) -> None:
        self._tally.add(*counts)

    def tally(self) -> Tally:
        return self._tally


@dataclass
class Meter:
    """
    Args:
        name: of the stage.
        total: rows that this run of the stage has to do.
        gpus: that the engines hold between them; 0 without GPU.
    """

    name: str
    total: int
    gpus: int
    counter: Any = field(default_factory=lambda: _Counter.options(**on_driver_node()).remote())  # type: ignore[attr-defined]
    started: float = field(default_factory=time.time)
    tally: Tally = field(default_factory=Tally)
    prefix_cache: dict[str, float] = field(default_factory=dict)
    """Tokens looked up and found in the engines' prefix caches, by kind and engine."""
    before: dict[str, float] = field(default_factory=dict)
    """The same at the start: Ray goes on to report the engines of stages that have ended."""

    def figures(self) -> dict[str, Any]:
        """For the artefact's record."""
        seconds = (self.tally.last or self.started) - self.started
        found: dict[str, Any] = {"rows_per_second": _rounded(self.tally.rows_per_second)}
        if (rate := self.hit_rate()) is not None:
            found["prefix_cache_hit_rate"] = round(rate, 4)
        if self.gpus:
            found["gpu_hours"] = round(self.gpus * seconds / 3600, 4)
        return found

    def hit_rate(self) -> float | None:
        counts = {"queries": 0.0, "hits": 0.0}
        for key, value in self.prefix_cache.items():
            counts[key.split()[0]] += value - self.before.get(key, 0.0)
        return counts["hits"] / counts["queries"] if counts["queries"] else None

    def line(self) -> str:
        """Beside the progress bar."""
        tally = self.tally
        parts = [self.name]
        if rate := tally.rows_per_second:
            parts.append(f"{rate:,.1f} rows/s")
            if self.gpus:
                left = self.gpus * (self.total - tally.rows) / rate / 3600
                parts.append(f"{left:,.2f} GPU-hours left")
        if tally.input_tokens:
            parts.append(f"{_short(tally.input_tokens)} tokens in, {_short(tally.output_tokens)} out")
        if tally.rejected:
            parts.append(f"{tally.rejected:,} rejected")
        return ", ".join(parts)

    def refresh(self) -> None:
        self.tally = ray.get(self.counter.tally.remote(), timeout=5)

    def scrape(self) -> None:
        """Read vLLM's counters where Ray exports them, on every node; those of a dead engine keep their last value."""
        for node in ray.nodes():
            if not node["Alive"]:
                continue
            try:
                page = requests.get(
                    f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics", timeout=3
                ).text
            except requests.RequestException:
                continue
            for kind, labels, value in PREFIX_CACHE.findall(page):
                self.prefix_cache[f"{kind} {labels}"] = float(value)


@contextmanager
def metered(name: str, total: int, gpus: int, scrape: bool) -> Iterator[Meter]:
    """Show a meter in the terminal while the block runs; ``scrape`` reads vLLM's own counters too."""
    meter = Meter(name, total, gpus)
    if scrape:
        meter.scrape()
        meter.before = dict(meter.prefix_cache)
    scraped = time.time()

    def look() -> tuple[int, str]:
        nonlocal scraped
        meter.refresh()
        if scrape and time.time() - scraped >= SCRAPE_SECONDS:
            meter.scrape()
            scraped = time.time()
        return meter.tally.rows, meter.line()

    with progress_bar(name, total, look):
        yield meter
        meter.refresh()
        if scrape:
            meter.scrape()


def _short(number: int) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return str(number)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
