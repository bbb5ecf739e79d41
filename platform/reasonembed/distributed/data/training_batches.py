"""The stage ``batches``: training rows laid down in the order of the steps, and how a worker reads them."""

from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache, partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import ray

from reasonembed import schemas, storage
from reasonembed.artifacts import SCRATCH, Artifact
from reasonembed.compaction import compact
from reasonembed.config import Run, Train
from reasonembed.config.resources import POOL
from reasonembed.distributed.cluster import run_remote
from reasonembed.distributed.data.row_stage import RowStage, worker_pool, write_rows
from reasonembed.distributed.data.worker_cache import Worker
from reasonembed.redapter.batch_plan import (
    BATCHES,
    STEPS,
    Example,
    Step,
    draw,
    examples_of,
    hold_out,
    plan_steps,
    row_id,
    shares,
)
from reasonembed.remixer.assemble import usable_rows

PARTS, STEPS_FILE, DEV_FILE = "part-", "steps.parquet", "dev.parquet"
PLAN = pa.schema([("row_id", pa.string()), ("query_id", pa.string()), ("step", pa.int32()), ("position", pa.int32())])
STEPS_PER_READ, READS_AT_A_TIME = 4, 2


def write_batches(training: Artifact, settings: Train, seed: int, run: Run, uri: str) -> dict[str, Any]:
    """Make the artefact: rows of ``BATCHES`` in order, the steps, and the dev rows.

    A query's passages are drawn here, so that training reads what it uses and nothing else.

    Raises:
        UserError: no task has enough rows for a batch, or all are held out.
    """
    files = training.parquet()
    plan = storage.join(uri, SCRATCH, "plan.parquet")
    steps = run_remote(_write_plan, files, settings, seed, uri, plan)
    pool = worker_pool(partial(draw_worker, plan, uri, settings, seed), BATCHES, run.actors)
    stage = RowStage("batches", pool, BATCHES, "query_id", run.rows_per_block)
    scratch = write_rows(stage, files, uri)
    for name in storage.list_files(uri):
        if name.startswith(PARTS):
            storage.delete_file(storage.join(uri, name))
    run_remote(compact, scratch, [plan], "row_id", BATCHES, uri, row_group_rows=settings.batch_size)
    return {"rows": sum(len(step.query_ids) for step in steps), "steps": len(steps)}


def _write_plan(files: Sequence[str], settings: Train, seed: int, uri: str, plan: str) -> list[Step]:
    names = ("task", "query_id", "reject_reason")
    keys = usable_rows(storage.read_table(files, pa.schema([schemas.TRAINING.field(name) for name in names])))
    rows = list(zip(keys["task"].to_pylist(), keys["query_id"].to_pylist(), strict=True))
    dev = hold_out(rows, settings.dev_queries, seed)
    steps = plan_steps([row for row in rows if row[1] not in dev], settings, seed)
    planned = [
        {"row_id": row_id(number, position), "query_id": query_id, "step": number, "position": position}
        for number, step in enumerate(steps)
        for position, query_id in enumerate(step.query_ids)
    ]
    storage.write_table(pa.Table.from_pylist(planned, schema=PLAN), plan)
    storage.write_table(
        pa.Table.from_pylist([vars(step) for step in steps], schema=STEPS), storage.join(uri, STEPS_FILE)
    )
    held = [_rows_of(file, dev) for file in files] if dev else []
    table = pa.concat_tables(held) if held else schemas.TRAINING.empty_table()
    storage.write_table(usable_rows(table), storage.join(uri, DEV_FILE))
    return steps


def _rows_of(file: str, query_ids: set[str]) -> pa.Table:
    table = storage.read_table([file], schemas.TRAINING)
    return table.filter(pc.is_in(table["query_id"], value_set=pa.array(sorted(query_ids), pa.string())))


def draw_worker(plan: str, uri: str, settings: Train, seed: int) -> Worker:
    """A row of training becomes one of ``BATCHES`` for every step that its query has a place in."""
    places: dict[str, list[tuple[int, int]]] = {}
    for row in storage.read_table([plan], PLAN).to_pylist():
        places.setdefault(row["query_id"], []).append((row["step"], row["position"]))
    groups = storage.read_table([storage.join(uri, STEPS_FILE)], STEPS)["group_size"].to_pylist()

    def work(rows: pa.Table) -> pa.Table:
        drawn = [
            draw(row, step, position, groups[step], settings, seed)
            for row in rows.to_pylist()
            if row["reject_reason"] is None
            for step, position in places.get(row["query_id"], [])
        ]
        return pa.Table.from_pylist(drawn, schema=BATCHES)

    return work


class StreamedBatches:
    """An artefact of ``write_batches`` as the training loop reads it: Ray Data fetches ahead, in order, from any step.

    Args:
        files: of the rows, in order.
        steps: URI of the steps.
        dev: URI of the dev rows.
    """

    def __init__(self, files: Sequence[str], steps: str, dev: str) -> None:
        self._files, self._steps, self._dev = tuple(files), steps, dev

    @cached_property
    def steps(self) -> list[Step]:
        return [Step(**row) for row in storage.read_table([self._steps], STEPS).to_pylist()]

    @cached_property
    def dev(self) -> pa.Table:
        return storage.read_table([self._dev], schemas.TRAINING)

    def examples(self, start: int) -> Iterator[list[Example]]:
        """This rank's examples of every step from ``start`` on."""
        # Here and not above: those who only read or draw rows need no torch, which takes seconds to import.
        from reasonembed.redapter.gather import rank, world_size

        numbers = list(range(start, len(self.steps)))
        if not numbers:
            return
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        here = ray.get_runtime_context().get_node_labels().get(POOL)
        context.execution_options.label_selector = {POOL: here} if here else None
        blocks = [pa.table({"step": numbers[i : i + STEPS_PER_READ]}) for i in range(0, len(numbers), STEPS_PER_READ)]
        rows = ray.data.from_blocks(blocks).map_batches(
            partial(_read_steps, self._files, rank(), world_size()),
            batch_size=None,
            batch_format="pyarrow",
            # The workers may hold every CPU there is; reads that waited for one would wait for ever.
            num_cpus=0,
            compute=ray.data.TaskPoolStrategy(size=READS_AT_A_TIME),
        )
        pieces: list[pa.Table] = []
        for table in rows.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2):
            # A step's rows may have come in two blocks.
            for piece in _by_step(table):
                if pieces and pieces[0]["step"][0] != piece["step"][0]:
                    yield examples_of(pa.concat_tables(pieces))
                    pieces = []
                pieces.append(piece)
        yield examples_of(pa.concat_tables(pieces))


def _read_steps(files: tuple[str, ...], place: int, ranks: int, numbers: pa.Table) -> pa.Table:
    """One rank's rows of some steps."""
    steps = numbers["step"].to_pylist()
    wanted = (pc.field("step") >= min(steps)) & (pc.field("step") <= max(steps))
    found = []
    for rows in _by_step(_opened(files).to_table(filter=wanted).cast(BATCHES)):
        counts = shares(rows.num_rows, ranks)
        found.append(rows.slice(sum(counts[:place]), counts[place]))
    return pa.concat_tables(found)


@lru_cache(maxsize=2)
def _opened(files: tuple[str, ...]) -> pyarrow.dataset.Dataset:
    places = [storage.open_filesystem(file) for file in files]
    return pyarrow.dataset.dataset([path for _, path in places], filesystem=places[0][0], format="parquet")


def _by_step(table: pa.Table) -> Iterator[pa.Table]:
    """The rows of each step; they are in order."""
    numbers = table["step"].to_pylist()
    start = 0
    for end in range(1, len(numbers) + 1):
        if end == len(numbers) or numbers[end] != numbers[start]:
            yield table.slice(start, end - start)
            start = end
