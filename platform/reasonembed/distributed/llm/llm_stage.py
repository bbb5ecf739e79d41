"""An LLM stage on Ray: attempts, rejected rows, usage.

An attempt is a pass over rows. The first one asks about all rows of the input, each further one about the rows whose
answer was invalid or whose request has failed (``repeated_rows``). Attempts are numbered over all runs of a job: a run
that finds finished attempts continues with the next number.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from ray.exceptions import RayActorError

from reasonembed import storage
from reasonembed.artifacts import scratch_uri
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
from reasonembed.distributed.llm.engine_errors import engine_death
from reasonembed.distributed.llm.outage import guarded
from reasonembed.distributed.llm.repeated_rows import check_transport, collect_repeated
from reasonembed.distributed.llm.usage import StageUsage, tracked_usage
from reasonembed.embedder.model_source import resolve
from reasonembed.llm.engines import engine_of
from reasonembed.llm.job import LlmJob
from reasonembed.llm.neutralisation import special_tokens_of
from reasonembed.llm.task_rows import USAGE_COLUMNS, TaskRows

MIN_ATTEMPTS = 2
"""Attempts of a run at least, also with ``llm.retries: 0``: a request that failed on its way was not answered."""


def run_llm_job(job: LlmJob, config: Config, inputs: Sequence[str], uri: str) -> dict[str, Any]:
    """Asks the engine about every row of the input files, repeats invalid answers, and writes the rows below ``uri``.

    Returns:
        Figures for the artifact's record.

    Raises:
        EngineUnavailable: the language model as a whole does not answer.
        JobFailed: requests of some rows failed in every attempt, or more rows than ``run.max_reject_fraction`` allows
            were rejected.
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
    finished = _finished_attempts(uri)
    scratch = [scratch_files(uri, number) for number in range(finished)]
    usages: list[StageUsage] = []
    rows = list(inputs)
    attempts = attempt.engine.attempts(config.llm)
    for number in range(finished, finished + max(attempts, MIN_ATTEMPTS)):
        if number:
            repeated = scratch_uri(uri, f"again-{number}.parquet")
            in_new_run = number == finished
            if not run_remote(collect_repeated, inputs, scratch, task.id_column, repeated, attempts, in_new_run):
                break
            rows = [repeated]
        files, usage = _run_attempt(stage, replace(attempt, number=number), rows, uri)
        scratch.append(files)
        usages.append(usage)
    else:
        run_remote(check_transport, job.name, scratch, task.id_column)
    all_files = [file for files in scratch for file in files]
    compact_rows(stage, all_files, inputs, uri, job.finish)
    return row_figures(job.name, uri, config.run, task.schema) | _usage_figures(usages, all_files)


def _finished_attempts(uri: str) -> int:
    """Returns how many attempts earlier runs have finished."""
    return next(number for number in count() if not is_finished(uri, number))


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


def _run_attempt(stage: RowStage, attempt: Attempt, inputs: Sequence[str], uri: str) -> tuple[list[str], StageUsage]:
    """Runs one pass over the rows; rows that an earlier, interrupted pass has written are skipped."""
    written = sum(storage.map_concurrently(storage.row_count, scratch_files(uri, attempt.number)))
    total = sum(storage.map_concurrently(storage.row_count, inputs)) - written
    gpus = attempt.workers * attempt.engine.gpus(attempt.llm, attempt.resources)
    name = stage.name if not attempt.number else f"{stage.name}, attempt {attempt.number + 1}"
    with tracked_usage(name, total, gpus, attempt.engine.has_metrics) as usage:
        transform = guarded(ADAPTERS[attempt.engine.name].transform(replace(attempt, usage=usage.actor)), usage.actor)
        try:
            return write_rows(stage, transform, inputs, uri, attempt.number), usage
        except RayActorError as error:
            if not attempt.engine.loads_weights:
                raise
            raise engine_death(error) from None


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
