"""Each engine as a transform of Ray Data, from the rows of a stage's input to the rows of its scratch files."""

from collections.abc import Callable
from functools import partial

import pyarrow as pa

from reasonembed.config import Resources
from reasonembed.distributed.data.row_stage import Transform, pool_of
from reasonembed.distributed.llm.attempt import Asking
from reasonembed.distributed.llm.http_engine import http_transform
from reasonembed.distributed.llm.vllm_engine import vllm_transform
from reasonembed.llm.protocol import Answer, LocalEngine
from reasonembed.llm.task_rows import Closing, TaskRows, table_of


def transform_of(asking: Asking) -> Transform:
    return {"extractive": _in_process, "vllm": vllm_transform, "http": http_transform}[asking.llm.engine](asking)


class _InProcess:
    def __init__(self, rows: TaskRows, make_engine: Callable[[], LocalEngine], close: Closing) -> None:
        self._rows, self._close = rows, close
        self._engine = make_engine()

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = batch.to_pylist()
        asked = [self._rows.request(row) for row in rows]
        answers = iter(self._engine.answer([request for request in asked if not isinstance(request, Answer)]))
        results = [
            self._rows.result(row, request if isinstance(request, Answer) else next(answers))
            for row, request in zip(rows, asked, strict=True)
        ]
        return self._close(table_of(results, self._rows.task.schema))


def _in_process(asking: Asking) -> Transform:
    assert asking.make_engine is not None
    close = Closing(asking.rows.task.schema, asking.counter)
    make = partial(_InProcess, asking.rows, asking.make_engine, close)
    pool = pool_of(make, asking.run.actors, Resources(), asking.reads)
    return lambda rows: rows.map_batches(batch_size=None, batch_format="pyarrow", zero_copy_batch=True, **pool)
