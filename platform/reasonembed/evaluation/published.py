"""What has been published on a benchmark, to stand beside our own figures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from reasonembed.corpora.bright import ORIGINAL


@dataclass(frozen=True)
class Published:
    """Systems measured by others, where and when they said so; values are x 100."""

    source: str
    date: str
    measure: str
    systems: Sequence[Mapping[str, Any]]


def published_on(benchmark: str, tasks: Sequence[str], queries: str) -> Published | None:
    """The published systems of a benchmark's kind, if the tasks are its own and the queries are as theirs were."""
    kind = benchmark.partition(":")[0]
    if queries != ORIGINAL or kind not in _all():
        return None
    found = Published(**_all()[kind])
    return found if set(tasks) <= set(found.systems[0]["tasks"]) else None


@cache
def _all() -> dict[str, Any]:
    text = resources.files(__package__).joinpath("published.json").read_text(encoding="utf-8")
    return dict(json.loads(text))
