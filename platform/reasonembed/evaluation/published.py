"""Published results on benchmarks, which reports show beside our own figures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from reasonembed.corpora import ORIGINAL


@dataclass(frozen=True)
class PublishedResults:
    """Systems that others have measured on a benchmark."""

    source: str
    """The publication."""
    date: str
    measure: str
    """What the values are, such as nDCG@10 × 100."""
    systems: Sequence[Mapping[str, Any]]
    """``name``, ``size``, ``average`` and ``tasks`` (task to value) of every system."""


def published_results(benchmark: str, tasks: Sequence[str], queries: str) -> PublishedResults | None:
    """Returns the published results that our own may be compared with; None where there are none.

    Args:
        benchmark: as in ``evaluate.benchmark``.
        tasks: that were evaluated; all must be the benchmark's own.
        queries: as in ``evaluate.queries``; only the original queries are comparable.
    """
    name = benchmark.partition(":")[0]
    if queries != ORIGINAL or name not in _by_benchmark():
        return None
    results = PublishedResults(**_by_benchmark()[name])
    return results if set(tasks) <= set(results.systems[0]["tasks"]) else None


@cache
def _by_benchmark() -> dict[str, Any]:
    text = resources.files(__package__).joinpath("published.json").read_text(encoding="utf-8")
    return dict(json.loads(text))
