"""Each engine as a transform of Ray Data, from the rows of a stage's input to the rows of its scratch files."""

from collections.abc import Callable
from functools import partial

import pyarrow as pa
import ray

from reasonembed.config import Place
from reasonembed.distributed.asking import LIGHT, Asking
from reasonembed.distributed.http_engine import http_transform
from reasonembed.distributed.llm_rows import TaskRows, table_of
from reasonembed.distributed.processors import closing
from reasonembed.distributed.row_stage import Transform, pool_of
from reasonembed.distributed.vllm_engine import vllm_transform
from reasonembed.llm.protocol import Answer, Engine


def transform_of(asking: Asking) -> Transform:
    return {"extractive": _in_process, "vllm": vllm_transform, "http": http_transform}[asking.llm.engine](asking)


class _InProcess:
    def __init__(self, rows: TaskRows, make_engine: Callable[[], Engine]) -> None:
        self._rows = rows
        self._engine = make_engine()

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = batch.to_pylist()
        asked = [self._rows.request(row) for row in rows]
        answers = iter(self._engine.answer([request for request in asked if not isinstance(request, Answer)]))
        results = [
            self._rows.result(row, request if isinstance(request, Answer) else next(answers))
            for row, request in zip(rows, asked, strict=True)
        ]
        return table_of(results, self._rows.task.schema)


def _in_process(asking: Asking) -> Transform:
    assert asking.make_engine is not None
    make = partial(_InProcess, asking.rows, asking.make_engine)
    pool = pool_of(make, asking.run.actors, Place(), asking.reads)

    def transform(rows: ray.data.Dataset) -> ray.data.Dataset:
        return rows.map_batches(batch_size=None, batch_format="pyarrow", zero_copy_batch=True, **pool).map_batches(
            closing(asking), batch_size=None, batch_format="pyarrow", **LIGHT
        )

    return transform
