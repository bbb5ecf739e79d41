"""One shape for every stage that maps rows to rows: read Parquet, transform on Ray, write Parquet, compact.

Resume is Ray Data's own: its checkpoint notes the ids of the rows that were written, in two phases, and a second run
reads past them. What a stage reads is therefore exactly what it works (or pays) for: one row, one id. The workers'
files lie in the artefact's scratch folder; compaction makes the artefact of them.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.data.checkpoint import CheckpointConfig

from reasonembed import storage
from reasonembed.artifacts import SCRATCH, Artifact
from reasonembed.compaction import compact
from reasonembed.config import Resources, Run
from reasonembed.distributed.cluster import data_context, read_rows, run_remote, start_ray
from reasonembed.distributed.data.worker_cache import CachedWorker, Worker
from reasonembed.distributed.placement import default_resources
from reasonembed.errors import JobFailed

Transform = Callable[[ray.data.Dataset], ray.data.Dataset]


@dataclass(frozen=True)
class RowStage:
    """
    Args:
        name: for messages.
        transform: from the input's rows to the rows of the scratch files; maps only, no shuffle.
        schema: of the artefact; the scratch files have these columns and may have more.
        id_column: unique in the input and kept in the output, for resume.
        rows_per_block: of what is read; a block is worked on, written and noted as one.
        then_by: orders the rows that a row of the input became, for a stage that makes many of one.
        place: all of the stage works in its pool; ``cluster.data`` when left out.
    """

    name: str
    transform: Transform
    schema: pa.Schema
    id_column: str
    rows_per_block: int
    then_by: str | None = None
    place: Resources | None = None


SMALL_BYTES = 256 << 20
"""Of what a worker reads, as files: so much may be in the memory of each idle process of a machine for a while."""


class _Held:
    """A worker in an actor."""

    def __init__(self, make_worker: Callable[[], Worker]) -> None:
        self._work = make_worker()

    def __call__(self, batch: pa.Table) -> pa.Table:
        return self._work(batch)


def pool_of(
    make_worker: Callable[[], Worker], workers: int, place: Resources, reads: Sequence[Artifact] = ()
) -> dict[str, Any]:
    """How ``map_batches`` and ``map_groups`` run a pool of workers, each of which asks for what a place says.

    Small workers on one core each are tasks, in processes that have imported what they need (``warm``). With a GPU,
    with several cores for its threads, or when it reads much, a worker is an actor, of which there are no more than
    were asked for, and which ends with the stage. Where GPUs are fewer than workers, the pool makes do with those.

    Args:
        make_worker: called once by each.
        workers: how many.
        place: of each.
        reads: what each has in memory.
    """
    needs = {"num_cpus": place.cpus, "num_gpus": place.gpus or None}
    if place.gpus or place.cpus > 1 or sum(entry.size for each in reads for entry in each.files) > SMALL_BYTES:
        least = 1 if place.gpus else workers
        compute = ray.data.ActorPoolStrategy(min_size=least, max_size=workers)
        return {"fn": _Held, "fn_constructor_args": (make_worker,), "compute": compute, **needs}
    return {"fn": CachedWorker(make_worker), "compute": ray.data.TaskPoolStrategy(size=workers), **needs}


class _Typed:
    def __init__(self, make_worker: Callable[[], Worker], schema: pa.Schema) -> None:
        self._work = make_worker()
        self._schema = schema

    def __call__(self, batch: pa.Table) -> pa.Table:
        # The cast keeps a column that is all null in one block from getting another type there than in the others.
        return self._work(batch).select(self._schema.names).cast(self._schema)


def worker_pool(
    make_worker: Callable[[], Worker],
    schema: pa.Schema,
    workers: int,
    place: Resources | None = None,
    reads: Sequence[Artifact] = (),
) -> Transform:
    """A pool of workers that map blocks to rows of a schema, at ``cluster.data`` when no place is named."""
    pool = pool_of(partial(_Typed, make_worker, schema), workers, place or default_resources(), reads)
    return lambda rows: rows.map_batches(batch_size=None, batch_format="pyarrow", zero_copy_batch=True, **pool)


def run_row_stage(stage: RowStage, inputs: Sequence[str], uri: str) -> None:
    """Map the rows of the input files, going on from an interrupted run's rows, and compact the result."""
    compact_rows(stage, write_rows(stage, inputs, uri), inputs, uri)


def write_rows(stage: RowStage, inputs: Sequence[str], uri: str, attempt: int = 0) -> list[str]:
    """The scratch files of one pass over the input; nothing runs for a pass that is finished."""
    scratch = storage.join(uri, SCRATCH)
    folder, checkpoint, done = (storage.join(scratch, f"{name}-{attempt}") for name in ("rows", "checkpoint", "done"))
    if not storage.exists(done):
        _execute(stage, inputs, folder, checkpoint)
        storage.write_bytes(done, b"")
    return [storage.join(folder, name) for name in storage.list_files(folder) if name.endswith(".parquet")]


def rows_noted(uri: str, attempt: int = 0) -> int:
    """Rows that an interrupted pass has written for good, and the next one need not work on."""
    checkpoint = storage.join(uri, SCRATCH, f"checkpoint-{attempt}")
    files = [storage.join(checkpoint, name) for name in storage.list_files(checkpoint) if name.endswith(".parquet")]
    return sum(storage.each_of(storage.row_count, files))


def _execute(stage: RowStage, inputs: Sequence[str], folder: str, checkpoint: str) -> None:
    start_ray()
    context = data_context(stage.place)
    context.memory_usage_poll_interval_s = None  # walks through all pages of a large engine every second
    fs, path = storage.open_filesystem(folder)
    checkpoint_path = storage.open_filesystem(checkpoint)[1]
    context.checkpoint_config = CheckpointConfig(
        id_column=stage.id_column,
        checkpoint_path=checkpoint_path,
        override_filesystem=fs,
        # The record is written after the data; until then the checkpoint is what a restart needs.
        delete_checkpoint_on_success=False,
    )
    fs.create_dir(checkpoint_path, recursive=True)
    try:
        rows = read_rows(inputs, stage.place).repartition(target_num_rows_per_block=stage.rows_per_block)
        stage.transform(rows).write_parquet(path, filesystem=fs, compression="zstd")
    finally:
        context.checkpoint_config = None


def compact_rows(
    stage: RowStage,
    scratch: Sequence[str],
    inputs: Sequence[str],
    uri: str,
    finish: Callable[[pa.Table], pa.Table] = lambda table: table,
) -> None:
    """Make the artefact's files of the scratch files.

    Raises:
        JobFailed: a row of the input has no row in them.
    """
    for name in storage.list_files(uri):
        storage.delete_file(storage.join(uri, name))
    missing = run_remote(compact, scratch, inputs, stage.id_column, stage.schema, uri, stage.then_by, finish)
    if missing:
        raise JobFailed(f"{stage.name}: {missing} rows of the input have no result; remove {uri} and run it again")


def row_figures(name: str, uri: str, run: Run, schema: pa.Schema) -> dict[str, Any]:
    """Rows written and rejected, by reason.

    Raises:
        JobFailed: more of them were rejected than ``run.max_reject_fraction`` allows.
    """
    files = [storage.join(uri, file) for file in storage.list_files(uri) if file.endswith(".parquet")]
    columns = pa.schema([schema.field("reject_reason")] if "reject_reason" in schema.names else [schema.field(0)])
    table = storage.read_table(files, columns)
    rejects: Counter[str] = Counter()
    if "reject_reason" in schema.names:
        rejects.update(pc.drop_null(table["reject_reason"]).to_pylist())
    rejected = sum(rejects.values())
    if table.num_rows and rejected / table.num_rows > run.max_reject_fraction:
        top = "; ".join(f"{count} × {reason}" for reason, count in rejects.most_common(3))
        raise JobFailed(
            f"{name}: {rejected} of {table.num_rows} rows were rejected, more than run.max_reject_fraction "
            f"{run.max_reject_fraction:g} allows ({top}); the rows lie in {uri}"
        )
    return {"rows": table.num_rows - rejected, "rejects": dict(rejects.most_common())}
