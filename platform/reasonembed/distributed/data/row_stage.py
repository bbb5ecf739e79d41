"""Row stages: read Parquet, transform on Ray Data, write Parquet, compact.

Resume is Ray Data's own: its checkpoint records the ids of the written rows in two phases, and a second run skips them
while reading. What a stage reads must therefore be exactly what it works on or pays for: one row, one id. The workers'
files are in the artifact's scratch folder; compaction makes the artifact's files of them.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from ray.data.checkpoint import CheckpointConfig

from reasonembed import storage
from reasonembed.artifacts import scratch_uri
from reasonembed.compaction import compact
from reasonembed.config import Resources, Run
from reasonembed.distributed.cluster import run_remote, start_ray
from reasonembed.distributed.data.datasets import data_context, read_rows
from reasonembed.distributed.data.worker_pool import Transform
from reasonembed.errors import JobFailed


@dataclass(frozen=True)
class RowStage:
    """A stage that maps rows to rows.

    Args:
        name: for messages.
        schema: of the artifact; the scratch files have these columns and may have more.
        id_column: unique in the input and present in the output, for resume.
        rows_per_block: rows of a block, which is processed, written and checkpointed as one.
        then_by: second sort key, for a stage that makes several rows of one.
        resources: whose node pool the whole stage runs in; ``cluster.data`` when left out.
    """

    name: str
    schema: pa.Schema
    id_column: str
    rows_per_block: int
    then_by: str | None = None
    resources: Resources | None = None


def run_row_stage(stage: RowStage, transform: Transform, inputs: Sequence[str], uri: str) -> None:
    """Maps the rows of the input files, continuing from an interrupted run, and compacts the result.

    Args:
        stage: its description.
        transform: from the input's rows to those of the scratch files; maps only, no shuffle.
        inputs: Parquet files.
        uri: of the artifact.
    """
    compact_rows(stage, write_rows(stage, transform, inputs, uri), inputs, uri)


def write_rows(stage: RowStage, transform: Transform, inputs: Sequence[str], uri: str, attempt: int = 0) -> list[str]:
    """Returns the scratch files of one pass over the input; a finished pass is not run again."""
    if not is_finished(uri, attempt):
        _execute(stage, transform, inputs, _scratch(uri, "rows", attempt), _scratch(uri, "checkpoint", attempt))
        storage.write_bytes(_scratch(uri, "done", attempt), b"")
    return scratch_files(uri, attempt)


def is_finished(uri: str, attempt: int = 0) -> bool:
    """Returns whether a pass over the input has been written completely."""
    return storage.exists(_scratch(uri, "done", attempt))


def scratch_files(uri: str, attempt: int = 0) -> list[str]:
    """Returns the Parquet files that a pass has written so far."""
    return _parquet_files(_scratch(uri, "rows", attempt))


def checkpointed_rows(uri: str, attempt: int = 0) -> int:
    """Returns how many rows an interrupted pass has written, which the next one skips."""
    return sum(storage.map_concurrently(storage.row_count, _parquet_files(_scratch(uri, "checkpoint", attempt))))


def _scratch(uri: str, kind: str, attempt: int) -> str:
    return scratch_uri(uri, f"{kind}-{attempt}")


def _parquet_files(folder: str) -> list[str]:
    return [storage.join(folder, name) for name in storage.list_files(folder) if name.endswith(".parquet")]


def _execute(stage: RowStage, transform: Transform, inputs: Sequence[str], folder: str, checkpoint: str) -> None:
    start_ray()
    context = data_context(stage.resources)
    context.memory_usage_poll_interval_s = None  # polling walks through all memory pages of a large engine each second
    filesystem, path = storage.open_filesystem(folder)
    checkpoint_path = storage.open_filesystem(checkpoint)[1]
    context.checkpoint_config = CheckpointConfig(
        id_column=stage.id_column,
        checkpoint_path=checkpoint_path,
        override_filesystem=filesystem,
        # The record is written after the data; until then a restart needs the checkpoint.
        delete_checkpoint_on_success=False,
    )
    filesystem.create_dir(checkpoint_path, recursive=True)
    try:
        rows = read_rows(inputs, stage.resources).repartition(target_num_rows_per_block=stage.rows_per_block)
        transform(rows).write_parquet(path, filesystem=filesystem, compression="zstd")
    finally:
        context.checkpoint_config = None


def compact_rows(
    stage: RowStage,
    scratch: Sequence[str],
    inputs: Sequence[str],
    uri: str,
    finish: Callable[[pa.Table], pa.Table] = lambda table: table,
) -> None:
    """Makes the artifact's files of the scratch files.

    Raises:
        JobFailed: a row of the input has no row in them.
    """
    missing = run_remote(compact, scratch, inputs, stage.id_column, stage.schema, uri, stage.then_by, finish)
    if missing:
        raise JobFailed(
            f"{stage.name}: {missing} rows of the input have no result; remove {scratch_uri(uri)} and run it again"
        )


def row_figures(name: str, uri: str, run: Run, schema: pa.Schema) -> dict[str, Any]:
    """Returns the number of accepted rows, and the rejected ones by reason.

    Raises:
        JobFailed: more rows were rejected than ``run.max_reject_fraction`` allows.
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
            f"{run.max_reject_fraction:g} allows ({top}); the rows are in {uri}"
        )
    return {"rows": table.num_rows - rejected, "rejects": dict(rejects.most_common())}
