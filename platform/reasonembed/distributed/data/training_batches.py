"""The stage ``batches``: training rows in the order of the training steps, and how a training worker reads them."""

from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache, partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import ray

from reasonembed import schemas, storage
from reasonembed.artifacts import Artifact, scratch_uri
from reasonembed.compaction import compact
from reasonembed.config import Run, Train
from reasonembed.config.resources import POOL
from reasonembed.distributed.cluster import run_remote
from reasonembed.distributed.data.row_stage import RowStage, write_rows
from reasonembed.distributed.data.worker_cache import Worker
from reasonembed.distributed.data.worker_pool import worker_pool
from reasonembed.redapter.batch_plan import (
    BATCHES,
    STEPS,
    Example,
    TrainingStep,
    held_out_ids,
    plan_steps,
    row_id,
    rows_per_rank,
    sample_batch_row,
    to_examples,
)
from reasonembed.remixer.assemble import usable_rows

PART_PREFIX, STEPS_FILE, HELD_OUT_FILE = "part-", "steps.parquet", "dev.parquet"
PLAN = pa.schema([("row_id", pa.string()), ("query_id", pa.string()), ("step", pa.int32()), ("position", pa.int32())])
STEPS_PER_READ, CONCURRENT_READS = 4, 2


def write_batches(training: Artifact, settings: Train, seed: int, run: Run, uri: str) -> dict[str, Any]:
    """Writes the artifact of the stage: rows of ``BATCHES`` in order, the steps, and the held-out rows.

    A query's passages are sampled here, so that training reads nothing that it does not use.

    Args:
        training: artifact with rows of ``schemas.TRAINING``.
        settings: of training.
        seed: of the sampling.
        run: number of actors and size of blocks.
        uri: of the artifact.

    Returns:
        The figures of the stage: rows and steps.

    Raises:
        UserError: no task has enough rows for a batch, or all rows are held out.
    """
    files = training.parquet()
    plan = scratch_uri(uri, "plan.parquet")
    steps = run_remote(_write_plan, files, settings, seed, uri, plan)
    pool = worker_pool(partial(sampling_worker, plan, uri, settings, seed), BATCHES, run.actors)
    stage = RowStage("batches", BATCHES, "query_id", run.rows_per_block)
    scratch = write_rows(stage, pool, files, uri)
    run_remote(compact, scratch, [plan], "row_id", BATCHES, uri, row_group_rows=settings.batch_size)
    return {"rows": sum(len(step.query_ids) for step in steps), "steps": len(steps)}


def _write_plan(files: Sequence[str], settings: Train, seed: int, uri: str, plan: str) -> list[TrainingStep]:
    """Writes the plan, the steps and the held-out rows, and returns the steps."""
    names = ("task", "query_id", "reject_reason")
    keys = usable_rows(storage.read_table(files, pa.schema([schemas.TRAINING.field(name) for name in names])))
    rows = list(zip(keys["task"].to_pylist(), keys["query_id"].to_pylist(), strict=True))
    held_out = held_out_ids(rows, settings.dev_queries, seed)
    steps = plan_steps([row for row in rows if row[1] not in held_out], settings, seed)
    plan_rows = [
        {"row_id": row_id(number, position), "query_id": query_id, "step": number, "position": position}
        for number, step in enumerate(steps)
        for position, query_id in enumerate(step.query_ids)
    ]
    storage.write_table(pa.Table.from_pylist(plan_rows, schema=PLAN), plan)
    storage.write_table(
        pa.Table.from_pylist([vars(step) for step in steps], schema=STEPS), storage.join(uri, STEPS_FILE)
    )
    tables = [_rows_with_ids(file, held_out) for file in files] if held_out else []
    table = pa.concat_tables(tables) if tables else schemas.TRAINING.empty_table()
    storage.write_table(usable_rows(table), storage.join(uri, HELD_OUT_FILE))
    return steps


def _rows_with_ids(file: str, query_ids: set[str]) -> pa.Table:
    table = storage.read_table([file], schemas.TRAINING)
    return table.filter(pc.is_in(table["query_id"], value_set=pa.array(sorted(query_ids), pa.string())))


def sampling_worker(plan: str, uri: str, settings: Train, seed: int) -> Worker:
    """Returns a worker that turns a training row into a row of ``BATCHES`` for every step that contains its query.

    Args:
        plan: URI of the plan.
        uri: of the artifact, which contains the steps.
        settings: of training.
        seed: of the sampling.
    """
    positions: dict[str, list[tuple[int, int]]] = {}
    for row in storage.read_table([plan], PLAN).to_pylist():
        positions.setdefault(row["query_id"], []).append((row["step"], row["position"]))
    group_sizes = storage.read_table([storage.join(uri, STEPS_FILE)], STEPS)["group_size"].to_pylist()

    def sample(rows: pa.Table) -> pa.Table:
        batch_rows = [
            sample_batch_row(row, step, position, group_sizes[step], settings, seed)
            for row in rows.to_pylist()
            if row["reject_reason"] is None
            for step, position in positions.get(row["query_id"], [])
        ]
        return pa.Table.from_pylist(batch_rows, schema=BATCHES)

    return sample


class StreamedBatches:
    """A ``BatchSource`` that reads an artifact of ``write_batches``; Ray Data prefetches the rows in order.

    Args:
        files: URIs of the rows, in order.
        steps: URI of the steps.
        held_out: URI of the held-out rows.
    """

    def __init__(self, files: Sequence[str], steps: str, held_out: str) -> None:
        self._files, self._steps, self._held_out = tuple(files), steps, held_out

    @cached_property
    def steps(self) -> list[TrainingStep]:
        """All steps of the training, in order."""
        return [TrainingStep(**row) for row in storage.read_table([self._steps], STEPS).to_pylist()]

    @cached_property
    def held_out(self) -> pa.Table:
        """The held-out rows, of ``schemas.TRAINING``."""
        return storage.read_table([self._held_out], schemas.TRAINING)

    def examples(self, start: int) -> Iterator[list[Example]]:
        """Yields this rank's examples of every step from ``start`` on."""
        # Not imported at the top: processes that only read or sample rows need no torch, which takes seconds to import.
        from reasonembed.redapter.gather import rank, world_size

        numbers = list(range(start, len(self.steps)))
        if not numbers:
            return
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        pool = ray.get_runtime_context().get_node_labels().get(POOL)
        context.execution_options.label_selector = {POOL: pool} if pool else None
        blocks = [pa.table({"step": numbers[i : i + STEPS_PER_READ]}) for i in range(0, len(numbers), STEPS_PER_READ)]
        rows = ray.data.from_blocks(blocks).map_batches(
            partial(_read_steps, self._files, rank(), world_size()),
            batch_size=None,
            batch_format="pyarrow",
            # The training workers may occupy all CPUs; reads that needed one would then wait forever.
            num_cpus=0,
            compute=ray.data.TaskPoolStrategy(size=CONCURRENT_READS),
        )
        pieces: list[pa.Table] = []
        for table in rows.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2):
            # The rows of a step may be spread over two blocks.
            for piece in _split_by_step(table):
                if pieces and pieces[0]["step"][0] != piece["step"][0]:
                    yield to_examples(pa.concat_tables(pieces))
                    pieces = []
                pieces.append(piece)
        yield to_examples(pa.concat_tables(pieces))


def _read_steps(files: tuple[str, ...], rank: int, ranks: int, numbers: pa.Table) -> pa.Table:
    """Returns one rank's rows of some steps."""
    steps = numbers["step"].to_pylist()
    in_steps = (pc.field("step") >= min(steps)) & (pc.field("step") <= max(steps))
    tables = []
    for rows in _split_by_step(_open_dataset(files).to_table(filter=in_steps).cast(BATCHES)):
        counts = rows_per_rank(rows.num_rows, ranks)
        tables.append(rows.slice(sum(counts[:rank]), counts[rank]))
    return pa.concat_tables(tables)


@lru_cache(maxsize=2)
def _open_dataset(files: tuple[str, ...]) -> pyarrow.dataset.Dataset:
    locations = [storage.open_filesystem(file) for file in files]
    return pyarrow.dataset.dataset([path for _, path in locations], filesystem=locations[0][0], format="parquet")


def _split_by_step(table: pa.Table) -> Iterator[pa.Table]:
    """Yields the rows of each step of a table that is ordered by step."""
    numbers = table["step"].to_pylist()
    start = 0
    for end in range(1, len(numbers) + 1):
        if end == len(numbers) or numbers[end] != numbers[start]:
            yield table.slice(start, end - start)
            start = end
