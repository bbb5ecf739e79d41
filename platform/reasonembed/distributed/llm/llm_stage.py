"""A stage that asks a language model one question a row: attempts, rejects, accounting."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from reasonembed import storage
from reasonembed.artifacts import SCRATCH, Artifact
from reasonembed.config import Config, Sampling
from reasonembed.distributed.cluster import run_remote, start_ray
from reasonembed.distributed.data.row_stage import RowStage, compact_rows, row_figures, write_rows
from reasonembed.distributed.llm.attempt import Asking
from reasonembed.distributed.llm.engines import transform_of
from reasonembed.distributed.llm.http_engine import check_server
from reasonembed.distributed.llm.usage import Meter, metered
from reasonembed.distributed.llm.vllm_engine import check_build
from reasonembed.llm.protocol import LocalEngine
from reasonembed.llm.task_rows import ACCOUNT, TaskRows

KEY_OF_REASON = pa.schema([pa.field("reject_reason", pa.string()), pa.field("retriable", pa.bool_())])


@dataclass(frozen=True)
class LlmStage:
    """
    Args:
        name: of the stage.
        rows: its task, as it travels to the workers.
        sampling: its own.
        grades: its answers end with a grade whose probabilities are wanted.
        make_engine: of an engine that lives in the worker's process; called there.
        reads: what such an engine has in memory.
        finish: a last look at the rows, in order.
    """

    name: str
    rows: TaskRows
    sampling: Sampling
    grades: bool = False
    make_engine: Callable[[], LocalEngine] | None = None
    reads: Sequence[Artifact] = ()
    finish: Callable[[pa.Table], pa.Table] = lambda table: table


def run_llm_stage(stage: LlmStage, config: Config, inputs: Sequence[str], uri: str) -> dict[str, Any]:
    """Ask about every row of the input files, ask again where the answer was invalid, and write the rows below ``uri``.

    Returns:
        Figures for the artefact's record.

    Raises:
        JobFailed: more rows than ``run.max_reject_fraction`` allows were rejected.
        UserError: the server cannot be reached.
    """
    start_ray()
    if config.llm.engine == "http":
        check_server(config.llm)
    if config.llm.engine == "vllm":
        check_build(config.cluster.llm)
    asking = Asking(
        stage.rows,
        config.llm,
        stage.sampling,
        config.run,
        config.cluster.llm,
        grades=stage.grades,
        make_engine=stage.make_engine,
        reads=stage.reads,
    )
    task = stage.rows.task
    place = config.cluster.llm if config.llm.engine == "vllm" else None
    row_stage = RowStage(stage.name, _no_transform, task.schema, task.id_column, asking.batch_rows, place=place)
    scratch: list[str] = []
    meters: list[Meter] = []
    questions = list(inputs)
    attempts = 1 if config.llm.engine == "extractive" else 1 + config.llm.retries
    for attempt in range(attempts):
        if attempt:
            again = storage.join(uri, SCRATCH, f"again-{attempt}.parquet")
            if not run_remote(collect_retriable, inputs, scratch, task.id_column, again):
                break
            questions = [again]
        rows, meter = _attempt(row_stage, replace(asking, attempt=attempt), questions, uri)
        scratch += rows
        meters += [meter] if meter else []
    compact_rows(row_stage, scratch, inputs, uri, stage.finish)
    return row_figures(stage.name, uri, config.run, task.schema) | _account(meters, scratch)


def _attempt(stage: RowStage, asking: Asking, inputs: Sequence[str], uri: str) -> tuple[list[str], Meter | None]:
    """One pass over the questions; what an earlier, interrupted pass wrote is not asked again."""
    if storage.exists(storage.join(uri, SCRATCH, f"done-{asking.attempt}")):
        return write_rows(stage, inputs, uri, asking.attempt), None
    done = sum(storage.each_of(storage.row_count, _scratch_files(uri, asking.attempt)))
    total = sum(storage.each_of(storage.row_count, inputs)) - done
    llm = asking.llm
    gpus = llm.actors[1] * asking.gpus
    name = stage.name if not asking.attempt else f"{stage.name}, attempt {asking.attempt + 1}"
    with metered(name, total, gpus, scrape=llm.engine == "vllm") as meter:
        transform = transform_of(replace(asking, counter=meter.counter))
        return write_rows(replace(stage, transform=transform), inputs, uri, asking.attempt), meter


def _no_transform(rows: Any) -> Any:
    raise AssertionError("every attempt brings its own transform")


def collect_retriable(inputs: Sequence[str], scratch: Sequence[str], id_column: str, uri: str) -> int:
    """Write the input rows whose latest answer was invalid and may come out better; returns how many there are.

    What was collected once is not collected anew: an interrupted attempt goes on with the rows it began with.
    """
    if storage.exists(uri):
        return storage.row_count(uri)
    states: dict[str, bool] = {}
    for file in scratch:
        table = storage.read_table([file], pa.schema([pa.field(id_column, pa.string()), *KEY_OF_REASON]))
        states |= {
            key: reason is not None and bool(retriable)
            for key, reason, retriable in zip(*(table[name].to_pylist() for name in table.schema.names), strict=True)
        }
    wanted = pa.array([key for key, again in states.items() if again], pa.string())
    if not len(wanted):
        return 0
    kept = []
    for file in inputs:
        with storage.parquet_file(file) as found:
            for batch in found.iter_batches():
                rows = pa.Table.from_batches([batch])
                kept.append(rows.filter(pc.is_in(rows[id_column], value_set=wanted)))
    storage.write_table(pa.concat_tables(kept).combine_chunks(), uri)
    return len(wanted)


def _scratch_files(uri: str, attempt: int) -> list[str]:
    folder = storage.join(uri, SCRATCH, f"rows-{attempt}")
    return [storage.join(folder, name) for name in storage.list_files(folder) if name.endswith(".parquet")]


def _account(meters: Sequence[Meter], scratch: Sequence[str]) -> dict[str, Any]:
    """What was paid, over all attempts and interruptions, and how fast the last run of the stage went."""
    paid = storage.read_table(scratch, pa.schema([field for field in ACCOUNT if field.name != "retriable"]))
    sums = {name: pc.sum(paid[name]).as_py() for name in paid.schema.names}
    figures: dict[str, Any] = {
        "calls": paid.num_rows,
        "input_tokens": sums["input_tokens"] or 0,
        "output_tokens": sums["output_tokens"] or 0,
    }
    if sums["engine_seconds"] is not None:
        figures["engine_seconds"] = round(sums["engine_seconds"], 3)
    if meters:
        figures |= {name: value for name, value in meters[0].figures().items() if value is not None}
        if hours := sum(meter.figures().get("gpu_hours", 0) for meter in meters):
            figures["gpu_hours"] = round(hours, 4)
    return figures
