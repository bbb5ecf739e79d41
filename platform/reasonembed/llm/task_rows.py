"""Between tables and engines: rows to requests, answers to rows. The same for every engine."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import pyarrow as pa

from reasonembed.llm.protocol import Answer, LlmTask, Parsed, Request
from reasonembed.llm.replies import parse

# What the scratch files of a language model's stage hold beside its rows.
ACCOUNT = [
    pa.field("input_tokens", pa.int32()),
    pa.field("output_tokens", pa.int32()),
    pa.field("retriable", pa.bool_()),
    pa.field("engine_seconds", pa.float32()),  # of an engine in the worker's own process
]


def scratch_schema(schema: pa.Schema) -> pa.Schema:
    return pa.schema([*schema, *ACCOUNT])


class TaskRows:
    """A task as it travels to the workers: made there, once in every process, when the first row comes.

    Args:
        make_task: loads what the task needs.
        engine: the name that the rows carry.
    """

    def __init__(self, make_task: Callable[[], LlmTask], engine: str) -> None:
        self._make_task = make_task
        self.engine = engine

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "task"}

    @cached_property
    def task(self) -> LlmTask:
        return self._make_task()

    def request(self, row: Mapping[str, Any]) -> Request | Answer:
        """The request; for a row that cannot be asked about, the answer that says why."""
        try:
            return self.task.request(row)
        except (KeyError, ValueError) as error:
            return Answer(error=f"row cannot be asked about: {error}", lasting=True)

    def result(self, row: Mapping[str, Any], answer: Answer) -> dict[str, Any]:
        """The row of ``scratch_schema``."""
        parsed: Parsed = parse(answer, self.task.reply)
        return self.task.result(row, parsed, self.engine) | {
            "reject_reason": parsed.reject_reason,
            "raw_answer": parsed.raw_answer,
            "input_tokens": answer.input_tokens,
            "output_tokens": answer.output_tokens,
            "retriable": parsed.retriable,
            "engine_seconds": answer.seconds,
        }


def table_of(results: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist(list(results), schema=scratch_schema(schema))


class Closing:
    """The last step before the rows are written: their schema, and a word to the meter."""

    def __init__(self, schema: pa.Schema, counter: Any) -> None:
        self._schema = scratch_schema(schema)
        self._counter = counter

    def __call__(self, batch: pa.Table) -> pa.Table:
        table = batch.select(self._schema.names).cast(self._schema)
        if self._counter is not None and table.num_rows:
            rejected = table.num_rows - table["reject_reason"].null_count
            tokens = [sum(filter(None, table[name].to_pylist())) for name in ("input_tokens", "output_tokens")]
            self._counter.add.remote(table.num_rows, rejected, *tokens)
        return table
