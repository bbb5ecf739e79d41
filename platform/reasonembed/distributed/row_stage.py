"""One shape for every stage that maps rows to rows: read Parquet, run a pool of actors, write Parquet.

Resume is Ray Data's own: its checkpoint notes the ids of the rows that were written, in two phases, and a second run
reads past them. What a stage reads is therefore exactly what it works (or pays) for: one row, one id.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.data.checkpoint import CheckpointConfig

from reasonembed import storage
from reasonembed.artifacts import SCRATCH
from reasonembed.config import Run
from reasonembed.distributed.session import start_ray
from reasonembed.errors import JobFailed

Worker = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True)
class RowStage:
    """
    Args:
        name: for messages.
        make_worker: called once in every actor; gives the function from a batch of rows to its result rows.
        schema: of the result.
        id_column: unique in the input and kept in the output, for resume; None where a row yields many rows, and an
            interrupted run starts over.
        num_gpus: per actor.
    """

    name: str
    make_worker: Callable[[], Worker]
    schema: pa.Schema
    id_column: str | None
    rows_per_block: int
    actors: int
    num_gpus: float = 0


class _Actor:
    def __init__(self, make_worker: Callable[[], Worker], schema: pa.Schema) -> None:
        self._work = make_worker()
        self._schema = schema

    def __call__(self, batch: pa.Table) -> pa.Table:
        # The cast keeps a column that is all null in one block from getting another type there than in the others.
        return self._work(batch).select(self._schema.names).cast(self._schema)


def run_row_stage(stage: RowStage, inputs: Sequence[str], uri: str) -> None:
    """Map the rows of the input files and write the result below ``uri``, going on from an interrupted run's rows."""
    start_ray()
    context = ray.data.DataContext.get_current()
    fs, _ = storage.open_filesystem(uri)
    if stage.id_column:
        checkpoint = storage.join(uri, SCRATCH, "checkpoint")
        context.checkpoint_config = CheckpointConfig(
            id_column=stage.id_column,
            checkpoint_path=storage.open_filesystem(checkpoint)[1],
            override_filesystem=fs,
            # The record is written after the data; until then the checkpoint is what a restart needs.
            delete_checkpoint_on_success=False,
        )
        fs.create_dir(storage.open_filesystem(checkpoint)[1], recursive=True)
    else:
        storage.delete_tree(uri)
    try:
        paths = [storage.open_filesystem(path)[1] for path in inputs]
        rows = ray.data.read_parquet(paths, filesystem=storage.open_filesystem(inputs[0])[0])
        rows.repartition(target_num_rows_per_block=stage.rows_per_block).map_batches(
            _Actor,
            fn_constructor_args=(stage.make_worker, stage.schema),
            compute=ray.data.ActorPoolStrategy(size=stage.actors),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=1,
            num_gpus=stage.num_gpus or None,
            zero_copy_batch=True,
        ).write_parquet(storage.open_filesystem(uri)[1], filesystem=fs, compression="zstd")
    finally:
        context.checkpoint_config = None


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
