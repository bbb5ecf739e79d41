"""``llm.engine: extractive``, or any engine that lives in the worker's own process, on a pool of Ray Data workers."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pyarrow as pa

from reasonembed.config import Resources
from reasonembed.distributed.data.worker_pool import Transform, pool_options
from reasonembed.distributed.llm.attempt import Attempt
from reasonembed.distributed.llm.usage import report_usage
from reasonembed.llm.protocol import Answer, LocalEngine
from reasonembed.llm.task_rows import TaskRows


class LocalEngineWorker:
    """Answers the rows of a batch with an engine in this process.

    Args:
        rows: the stage's task.
        make_engine: builds the engine.
        usage: handle of the actor that counts rows and tokens.
    """

    def __init__(self, rows: TaskRows, make_engine: Callable[[], LocalEngine], usage: Any) -> None:
        self._rows, self._usage = rows, usage
        self._engine = make_engine()

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Returns the rows of the intermediate files."""
        rows = batch.to_pylist()
        requests = [self._rows.request(row) for row in rows]
        answers = iter(self._engine.answer([request for request in requests if not isinstance(request, Answer)]))
        complete = [request if isinstance(request, Answer) else next(answers) for request in requests]
        return report_usage(self._rows.table(rows, complete), self._usage)


def extractive_transform(attempt: Attempt) -> Transform:
    """Returns the transform of an attempt."""
    assert attempt.make_engine is not None
    make_worker = partial(LocalEngineWorker, attempt.rows, attempt.make_engine, attempt.usage)
    pool = pool_options(make_worker, attempt.workers, Resources(), attempt.reads)
    return lambda rows: rows.map_batches(batch_size=None, batch_format="pyarrow", zero_copy_batch=True, **pool)
