"""Which rows and passages a step sees: a pure function of (rows, seed, step), so that resume needs the step alone."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from reasonembed.errors import UserError
from reasonembed.ids import digest, normalised_text


@dataclass(frozen=True)
class Example:
    """A query of a step with its group of passages, the positive first."""

    query_id: str
    prompt: str
    query: str
    reasoning_query: str
    passages: list[str]
    scores: list[float]
    positive_keys: frozenset[int]
    """Text keys of all the query's known positives, none of which may count as its negative."""


def text_key(text: str) -> int:
    """Equal texts have equal keys; fits int64."""
    return int(digest(normalised_text(text), length=15), 16)


class BatchPlan:
    """All queries of a step come from one task; an epoch visits every task's rows once, in batches of full size.

    Raises:
        UserError: no task has enough rows for a batch.
    """

    def __init__(self, tasks: Sequence[str], batch_size: int, steps: int, seed: int) -> None:
        by_task: dict[str, list[int]] = {}
        for row, task in enumerate(tasks):
            by_task.setdefault(task, []).append(row)
        largest = max((len(rows) for rows in by_task.values()), default=0)
        if largest < batch_size:
            raise UserError(
                "no task has enough training rows for a batch: "
                f"train.batch_size is {batch_size}, the largest task has {largest}"
            )
        self.batches: list[list[int]] = []
        epoch = 0
        while len(self.batches) < steps:
            rng = random.Random(f"{seed}/epoch/{epoch}")
            fresh: list[list[int]] = []
            for task in sorted(by_task):
                rows = by_task[task][:]
                rng.shuffle(rows)
                fresh += [
                    rows[start : start + batch_size] for start in range(0, len(rows) - batch_size + 1, batch_size)
                ]
            rng.shuffle(fresh)
            self.batches += fresh
            epoch += 1
        del self.batches[steps:]


def examples_of(table: pa.Table, rows: Sequence[int], group_size: int, seed: int, step: int) -> list[Example]:
    """The examples of some rows of ``schemas.TRAINING``: a random positive, then negatives without replacement
    (repeated only to fill)."""
    return [
        _example(row, group_size, random.Random(f"{seed}/{step}/{row['query_id']}"))
        for row in table.take(rows).to_pylist()
    ]


def _example(row: Mapping[str, Any], group_size: int, rng: random.Random) -> Example:
    positive = rng.randrange(len(row["pos"]))
    wanted = group_size - 1
    order = list(range(len(row["neg"])))
    negatives = rng.sample(order, min(wanted, len(order)))
    negatives += rng.choices(order, k=wanted - len(negatives))
    return Example(
        query_id=row["query_id"],
        prompt=row["prompt"],
        query=row["query"],
        reasoning_query=row["reasoning_query"],
        passages=[row["pos"][positive], *(row["neg"][i] for i in negatives)],
        scores=[row["pos_score"][positive], *(row["neg_score"][i] for i in negatives)],
        positive_keys=frozenset(text_key(text) for text in row["pos"]),
    )
