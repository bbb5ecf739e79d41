"""What the engines behind a processor of ``ray.data.llm`` have in common: rows into its columns, and out of them."""

from collections.abc import Callable, Mapping
from typing import Any

import ray

from reasonembed.distributed.data.row_stage import Transform
from reasonembed.distributed.llm.attempt import Asking
from reasonembed.llm.protocol import Answer
from reasonembed.llm.task_rows import Closing, TaskRows, scratch_schema
from reasonembed.remixer.prompting import messages

ERROR = "__inference_error__"  # Ray's column; a row in which it is set passes every step of a processor untouched


def processed(asking: Asking, processor: Any, finish: Callable[[dict[str, Any]], dict[str, Any]]) -> Transform:
    # Ray would let the rows that failed past a `postprocess` function with all their columns, which no table holds
    # beside the others; this sees every row.
    processor.postprocess = finish
    closing = Closing(asking.rows.task.schema, asking.counter)

    def transform(rows: ray.data.Dataset) -> ray.data.Dataset:
        return processor(rows).map_batches(closing, batch_size=None, batch_format="pyarrow", **asking.after)

    return transform


def prepared(
    rows: TaskRows, prepare: Callable[[list[dict[str, str]], str], dict[str, Any]], row: dict[str, Any]
) -> Any:
    """The columns that a processor's steps read, or the error with which they pass a row by."""
    request = rows.request(row)
    if isinstance(request, Answer):
        return {ERROR: request.error}
    return prepare(messages(request), str(row[rows.task.id_column])) | {ERROR: ""}


def finished(rows: TaskRows, answer_of: Callable[[Mapping[str, Any]], Answer], row: dict[str, Any]) -> dict[str, Any]:
    data = row["__data"]
    result = rows.result(data, answer_of(data))
    return {name: result[name] for name in scratch_schema(rows.task.schema).names}


def engine_error(message: str) -> Answer:
    """An engine's error as the reason of a reject, short enough to be counted by."""
    first = message.strip().splitlines()[0]
    if is_too_long(message):
        return Answer(error="prompt and answer do not fit into llm.max_model_len", lasting=True)
    if first.startswith("row cannot be asked about"):
        return Answer(error=first, lasting=True)
    return Answer(error=f"engine: {first[:200]}")


def is_too_long(message: str) -> bool:
    return any(words in message for words in ("maximum model length", "maximum context length", "max_model_len"))
