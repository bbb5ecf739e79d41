"""What every step sees, laid down before training: a pure function of rows, settings and seed.

``plan_steps`` says which queries make which step, ``draw`` which passages a query brings to it. Both are written out in
the order of the steps, so that training reads forwards and a resume needs the number of its step alone.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from reasonembed.config import Train
from reasonembed.errors import UserError
from reasonembed.ids import digest
from reasonembed.redapter.minhash import HASHES, minhash_signatures, text_key

# key row_id; rows in order of step and position
BATCHES = pa.schema(
    [
        ("row_id", pa.string()),
        ("step", pa.int32()),
        ("position", pa.int32()),
        ("query_id", pa.string()),
        ("prompt", pa.string()),
        ("query", pa.string()),
        ("reasoning_query", pa.string()),
        ("passages", pa.list_(pa.string())),
        ("positives", pa.int32()),  # so many of the passages, the first ones
        ("scores", pa.list_(pa.float32())),
        ("grades", pa.list_(pa.int32())),
        ("keys", pa.list_(pa.int64())),  # of the passages' texts
        ("signatures", pa.list_(pa.int32())),  # HASHES for every passage
        ("positive_keys", pa.list_(pa.int64())),  # of all known positives
    ]
)
STEPS = pa.schema([("task", pa.string()), ("group_size", pa.int32()), ("query_ids", pa.list_(pa.string()))])


@dataclass(frozen=True)
class Step:
    """The queries of a step, all of one task, in order."""

    task: str
    group_size: int
    query_ids: list[str]


@dataclass(frozen=True)
class Example:
    """A query of a step with its group of passages, the positives first."""

    query_id: str
    prompt: str
    query: str
    reasoning_query: str
    passages: list[str]
    positives: int
    scores: list[float]
    grades: list[int]
    keys: list[int]
    signatures: np.ndarray
    """(passages, HASHES)"""
    positive_keys: list[int]
    """Text keys of all the query's known positives, none of which may count as its negative."""


def plan_steps(rows: Sequence[tuple[str, str]], settings: Train, seed: int) -> list[Step]:
    """All queries of a step come from one task; an epoch visits every task's rows once, in batches of full size.

    Args:
        rows: (task, query id).
        settings: of training; without ``steps``, ``epochs`` gives their number.
        seed: of the shuffling.

    Raises:
        UserError: no task has enough rows for a batch.
    """
    by_task: dict[str, list[str]] = {}
    for task, query_id in rows:
        by_task.setdefault(task, []).append(query_id)
    per_epoch = sum(len(ids) // settings.shape(task)[1] for task, ids in by_task.items())
    if not per_epoch:
        largest = max((len(ids) for ids in by_task.values()), default=0)
        raise UserError(
            "no task has enough training rows for a batch: "
            f"train.batch_size is {settings.batch_size}, the largest task has {largest}"
        )
    wanted = settings.steps or max(1, round(settings.epochs * per_epoch))
    steps: list[Step] = []
    epoch = 0
    while len(steps) < wanted:
        rng = random.Random(f"{seed}/epoch/{epoch}")
        fresh = []
        for task in sorted(by_task):
            group_size, size = settings.shape(task)
            ids = by_task[task][:]
            rng.shuffle(ids)
            fresh += [Step(task, group_size, ids[i : i + size]) for i in range(0, len(ids) - size + 1, size)]
        rng.shuffle(fresh)
        steps += fresh
        epoch += 1
    return steps[:wanted]


def hold_out(rows: Sequence[tuple[str, str]], count: int, seed: int) -> set[str]:
    """Query ids of the dev set: ``count`` of all, by hash, so that one more row moves no other."""
    ids = sorted({query_id for _, query_id in rows}, key=lambda query_id: digest("dev", str(seed), query_id))
    return set(ids[:count])


def row_id(step: int, position: int) -> str:
    return f"{step}/{position}"


def draw(
    row: Mapping[str, Any], step: int, position: int, group_size: int, settings: Train, seed: int
) -> dict[str, Any]:
    """A row of ``BATCHES`` from one of ``schemas.TRAINING``."""
    rng = random.Random(f"{seed}/{step}/{row['query_id']}")
    positives = rng.sample(range(len(row["pos"])), min(settings.positives, len(row["pos"])))
    negatives = _negatives(row["neg_grade"], group_size - len(positives), settings.negatives, rng)
    passages = [*(row["pos"][i] for i in positives), *(row["neg"][i] for i in negatives)]
    drawn = {
        name: [*(row[f"pos_{name}"][i] for i in positives), *(row[f"neg_{name}"][i] for i in negatives)]
        for name in ("score", "grade")
    }
    return {
        "row_id": row_id(step, position),
        "step": step,
        "position": position,
        **{name: row[name] for name in ("query_id", "prompt", "query", "reasoning_query")},
        "passages": passages,
        "positives": len(positives),
        "scores": drawn["score"],
        "grades": drawn["grade"],
        "keys": [text_key(text) for text in passages],
        "signatures": minhash_signatures(passages).reshape(-1),
        "positive_keys": sorted({text_key(text) for text in row["pos"]}),
    }


def _negatives(grades: Sequence[int], wanted: int, how: str, rng: random.Random) -> list[int]:
    """Positions among the negatives, without replacement, repeated only to fill."""
    order = list(range(len(grades)))
    rng.shuffle(order)
    if how == "stratified":
        strata: dict[int, list[int]] = {}
        for position in order:
            strata.setdefault(grades[position], []).append(position)
        # One of each grade in turn, as long as there are any.
        turns = {position: turn for stratum in strata.values() for turn, position in enumerate(stratum)}
        order.sort(key=lambda position: (turns[position], -grades[position]))
    chosen = order[:wanted]
    return chosen + rng.choices(order, k=wanted - len(chosen))


def shares(rows: int, ranks: int) -> list[int]:
    """How many of a step's rows each rank takes: as equal as can be, the first ranks one more."""
    return [rows // ranks + (place < rows % ranks) for place in range(ranks)]


def examples_of(table: pa.Table) -> list[Example]:
    """Rows of ``BATCHES`` as examples."""
    columns = [name for name in BATCHES.names if name not in ("row_id", "step", "position")]
    return [
        Example(**row | {"signatures": np.asarray(row["signatures"], np.int32).reshape(-1, HASHES)})
        for row in table.select(columns).to_pylist()
    ]
