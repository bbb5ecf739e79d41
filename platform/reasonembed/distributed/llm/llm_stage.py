"""An LLM stage on Ray: attempts, rejected rows, usage."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from reasonembed import storage
from reasonembed.artifacts import SCRATCH
from reasonembed.config import Config
from reasonembed.distributed.cluster import run_remote, start_ray
from reasonembed.distributed.data.row_stage import (
    RowStage,
    compact_rows,
    is_finished,
    row_figures,
    scratch_files,
    write_rows,
)
from reasonembed.distributed.llm.adapters import ADAPTERS
from reasonembed.distributed.llm.attempt import Attempt
from reasonembed.distributed.llm.usage import StageUsage, tracked_usage
from reasonembed.embedder.model_source import resolve
from reasonembed.llm.engines import engine_of
from reasonembed.llm.job import LlmJob
from reasonembed.llm.neutralisation import special_tokens_of
from reasonembed.llm.task_rows import USAGE_COLUMNS, TaskRows

REJECT_COLUMNS = pa.schema([pa.field("reject_reason", pa.string()), pa.field("retriable", pa.bool_())])


def run_llm_job(job: LlmJob, config: Config, inputs: Sequence[str], uri: str) -> dict[str, Any]:
    """Asks the engine about every row of the input files, repeats invalid answers, and writes the rows below ``uri``.

    Returns:
        Figures for the artifact's record.

    Raises:
        JobFailed: more rows than ``run.max_reject_fraction`` allows were rejected.
        UserError: the engine cannot work.
    """
    start_ray()
    adapter = ADAPTERS[config.llm.engine]
    adapter.check(config)
    attempt = _first_attempt(job, config)
    task = attempt.rows.task
    stage = RowStage(
        job.name,
        task.schema,
        task.id_column,
        attempt.block_rows,
        resources=attempt.engine.resources(config.cluster),
    )
    scratch: list[str] = []
    usages: list[StageUsage] = []
    rows = list(inputs)
    for number in range(attempt.engine.attempts(config.llm)):
        if number:
            repeated = storage.join(uri, SCRATCH, f"again-{number}.parquet")
            if not run_remote(collect_retriable, inputs, scratch, task.id_column, repeated):
                break
            rows = [repeated]
        files, usage = _run_attempt(stage, replace(attempt, number=number), rows, uri)
        scratch += files
        usages += [usage] if usage else []
    compact_rows(stage, scratch, inputs, uri, job.finish)
    return row_figures(job.name, uri, config.run, task.schema) | _usage_figures(usages, scratch)


def _first_attempt(job: LlmJob, config: Config) -> Attempt:
    engine = engine_of(config.llm)
    model = resolve(engine.model(config.llm, job.sampling)) if engine.loads_weights else ""
    # Of a model on the hub the tokenizer is not here yet; the known special tokens of all families are used instead.
    special_tokens = partial(special_tokens_of, model) if Path(model).is_dir() and model else None
    rows = TaskRows(job.make_task, engine.label(config.llm, job.sampling), special_tokens)
    return Attempt(
        rows,
        config.llm,
        job.sampling,
        config.run,
        config.cluster.llm,
        grades=job.grades,
        make_engine=job.make_engine,
        reads=job.reads,
    )


def _run_attempt(
    stage: RowStage, attempt: Attempt, inputs: Sequence[str], uri: str
) -> tuple[list[str], StageUsage | None]:
    """Runs one pass over the rows; rows that an earlier, interrupted pass has written are skipped."""
    if is_finished(uri, attempt.number):
        return scratch_files(uri, attempt.number), None
    written = sum(storage.map_concurrently(storage.row_count, scratch_files(uri, attempt.number)))
    total = sum(storage.map_concurrently(storage.row_count, inputs)) - written
    gpus = attempt.workers * attempt.engine.gpus(attempt.llm, attempt.resources)
    name = stage.name if not attempt.number else f"{stage.name}, attempt {attempt.number + 1}"
    with tracked_usage(name, total, gpus, attempt.engine.has_metrics) as usage:
        transform = ADAPTERS[attempt.engine.name].transform(replace(attempt, usage=usage.actor))
        return write_rows(stage, transform, inputs, uri, attempt.number), usage


def collect_retriable(inputs: Sequence[str], scratch: Sequence[str], id_column: str, uri: str) -> int:
    """Writes the input rows whose latest answer was invalid and may be valid at another attempt.

    An existing file is not written again, so that an interrupted attempt continues with the rows it began with.

    Args:
        inputs: files of the stage's input.
        scratch: files of all attempts so far, in order.
        id_column: in both.
        uri: of the file to write.

    Returns:
        The number of these rows.
    """
    if storage.exists(uri):
        return storage.row_count(uri)
    is_retriable: dict[str, bool] = {}
    for file in scratch:
        table = storage.read_table([file], pa.schema([pa.field(id_column, pa.string()), *REJECT_COLUMNS]))
        is_retriable |= {
            row_id: reason is not None and bool(retriable)
            for row_id, reason, retriable in zip(*(table[name].to_pylist() for name in table.schema.names), strict=True)
        }
    row_ids = pa.array([row_id for row_id, retriable in is_retriable.items() if retriable], pa.string())
    if not len(row_ids):
        return 0
    rows = []
    for file in inputs:
        with storage.parquet_file(file) as parquet:
            for batch in parquet.iter_batches():
                table = pa.Table.from_batches([batch])
                rows.append(table.filter(pc.is_in(table[id_column], value_set=row_ids)))
    storage.write_table(pa.concat_tables(rows).combine_chunks(), uri)
    return len(row_ids)


def _usage_figures(usages: Sequence[StageUsage], scratch: Sequence[str]) -> dict[str, Any]:
    """Returns calls and tokens over all attempts and interruptions, and the throughput of this run."""
    columns = storage.read_table(scratch, pa.schema([field for field in USAGE_COLUMNS if field.name != "retriable"]))
    sums = {name: pc.sum(columns[name]).as_py() for name in columns.schema.names}
    figures: dict[str, Any] = {
        "calls": columns.num_rows,
        "input_tokens": sums["input_tokens"] or 0,
        "output_tokens": sums["output_tokens"] or 0,
    }
    if sums["engine_seconds"] is not None:
        figures["engine_seconds"] = round(sums["engine_seconds"], 3)
    if usages:
        figures |= {name: value for name, value in usages[0].figures().items() if value is not None}
        if hours := sum(usage.figures().get("gpu_hours", 0) for usage in usages):
            figures["gpu_hours"] = round(hours, 4)
    return figures
