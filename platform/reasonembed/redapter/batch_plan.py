"""The plan of all training batches, made before training as a pure function of rows, settings and seed.

``plan_steps`` decides which queries form which step, ``sample_batch_row`` which passages a query brings to its step.
Both are written to storage in the order of the steps, so that training reads forwards and a resumed training needs only
the number of its step.
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

# key: row_id; the rows are ordered by step and position
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
        ("positives", pa.int32()),  # number of positives; they are the first passages
        ("scores", pa.list_(pa.float32())),
        ("grades", pa.list_(pa.int32())),
        ("keys", pa.list_(pa.int64())),  # text keys of the passages
        ("signatures", pa.list_(pa.int32())),  # HASHES numbers for every passage
        ("positive_keys", pa.list_(pa.int64())),  # text keys of all known positives
    ]
)
STEPS = pa.schema([("task", pa.string()), ("group_size", pa.int32()), ("query_ids", pa.list_(pa.string()))])


@dataclass(frozen=True)
class TrainingStep:
    """The queries of a training step in order, all of one task."""

    task: str
    group_size: int
    """Passages per query."""
    query_ids: list[str]


@dataclass(frozen=True)
class Example:
    """A query of a step with its group of passages, positives first."""

    query_id: str
    prompt: str
    query: str
    reasoning_query: str
    passages: list[str]
    positives: int
    """Number of positives in the group."""
    scores: list[float]
    """The annotator's score of each passage, in [0, 1]."""
    grades: list[int]
    """The annotator's grade of each passage, 1 to 5."""
    keys: list[int]
    """Text key of each passage."""
    signatures: np.ndarray
    """MinHash signatures, (passages, HASHES) int32."""
    positive_keys: list[int]
    """Text keys of all known positives of the query, none of which may count as a negative."""


def plan_steps(rows: Sequence[tuple[str, str]], settings: Train, seed: int) -> list[TrainingStep]:
    """Distributes the queries over steps: each step has one task and is full; an epoch uses a query at most once.

    Args:
        rows: (task, query id) of every training row.
        settings: of training; without ``steps``, ``epochs`` decides the number of steps.
        seed: of the shuffling.

    Raises:
        UserError: no task has enough rows for a batch.
    """
    ids_by_task: dict[str, list[str]] = {}
    for task, query_id in rows:
        ids_by_task.setdefault(task, []).append(query_id)
    steps_per_epoch = sum(len(ids) // settings.shape(task)[1] for task, ids in ids_by_task.items())
    if not steps_per_epoch:
        largest = max((len(ids) for ids in ids_by_task.values()), default=0)
        raise UserError(
            "no task has enough training rows for a batch: "
            f"train.batch_size is {settings.batch_size}, the largest task has {largest}"
        )
    number = settings.steps or max(1, round(settings.epochs * steps_per_epoch))
    steps: list[TrainingStep] = []
    epoch = 0
    while len(steps) < number:
        rng = random.Random(f"{seed}/epoch/{epoch}")
        epoch_steps = []
        for task in sorted(ids_by_task):
            group_size, size = settings.shape(task)
            ids = ids_by_task[task][:]
            rng.shuffle(ids)
            epoch_steps += [
                TrainingStep(task, group_size, ids[i : i + size]) for i in range(0, len(ids) - size + 1, size)
            ]
        rng.shuffle(epoch_steps)
        steps += epoch_steps
        epoch += 1
    return steps[:number]


def held_out_ids(rows: Sequence[tuple[str, str]], count: int, seed: int) -> set[str]:
    """Chooses the queries that are held out of training.

    The choice is by hash, so that an added row changes at most one of the others.

    Args:
        rows: (task, query id) of every training row.
        count: number of queries to hold out.
        seed: of the choice.
    """
    ids = sorted({query_id for _, query_id in rows}, key=lambda query_id: digest("dev", str(seed), query_id))
    return set(ids[:count])


def row_id(step: int, position: int) -> str:
    """Returns the key of a row of ``BATCHES``."""
    return f"{step}/{position}"


def sample_batch_row(
    row: Mapping[str, Any], step: int, position: int, group_size: int, settings: Train, seed: int
) -> dict[str, Any]:
    """Samples the passages that a query brings to a step.

    Args:
        row: of ``schemas.TRAINING``.
        step: number of the step, from 0.
        position: of the query in the step, from 0.
        group_size: passages per query.
        settings: of training.
        seed: of the sampling.

    Returns:
        A row of ``BATCHES``.
    """
    rng = random.Random(f"{seed}/{step}/{row['query_id']}")
    positives = rng.sample(range(len(row["pos"])), min(settings.positives, len(row["pos"])))
    negatives = _sample_negatives(row["neg_grade"], group_size - len(positives), settings.negatives, rng)
    passages = [*(row["pos"][i] for i in positives), *(row["neg"][i] for i in negatives)]
    annotations = {
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
        "scores": annotations["score"],
        "grades": annotations["grade"],
        "keys": [text_key(text) for text in passages],
        "signatures": minhash_signatures(passages).reshape(-1),
        "positive_keys": sorted({text_key(text) for text in row["pos"]}),
    }


def _sample_negatives(grades: Sequence[int], count: int, method: str, rng: random.Random) -> list[int]:
    """Samples positions among the negatives, without replacement as long as there are enough."""
    order = list(range(len(grades)))
    rng.shuffle(order)
    if method == "stratified":
        strata: dict[int, list[int]] = {}
        for position in order:
            strata.setdefault(grades[position], []).append(position)
        # Round robin: the first negative of every grade, then the second of every grade, and so on.
        rounds = {position: number for stratum in strata.values() for number, position in enumerate(stratum)}
        order.sort(key=lambda position: (rounds[position], -grades[position]))
    sample = order[:count]
    return sample + rng.choices(order, k=count - len(sample))


def rows_per_rank(rows: int, ranks: int) -> list[int]:
    """Splits a number of rows over the ranks as equally as possible; the first ranks get one more."""
    return [rows // ranks + (rank < rows % ranks) for rank in range(ranks)]


def to_examples(table: pa.Table) -> list[Example]:
    """Turns rows of ``BATCHES`` into examples."""
    columns = [name for name in BATCHES.names if name not in ("row_id", "step", "position")]
    return [
        Example(**row | {"signatures": np.asarray(row["signatures"], np.int32).reshape(-1, HASHES)})
        for row in table.select(columns).to_pylist()
    ]
