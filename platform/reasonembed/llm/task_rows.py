"""Conversion between an LLM stage's tables and an engine's requests and answers, the same for every engine."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import pyarrow as pa

from reasonembed.llm.parsing import parse
from reasonembed.llm.prompt import PromptRenderer
from reasonembed.llm.protocol import Answer, LlmTask, Parsed, Request
from reasonembed.llm.reject_reasons import NO_REQUEST

USAGE_COLUMNS = [
    pa.field("input_tokens", pa.int32()),
    pa.field("output_tokens", pa.int32()),
    pa.field("retriable", pa.bool_()),
    pa.field("engine_seconds", pa.float32()),  # only from engines in the worker's own process
]
"""Columns that the intermediate files of an LLM stage have beside the stage's own."""


def scratch_schema(schema: pa.Schema) -> pa.Schema:
    """Returns the schema of a stage's intermediate files."""
    return pa.schema([*schema, *USAGE_COLUMNS])


class TaskRows:
    """A task as it is sent to workers; each process builds it once, at its first row.

    Args:
        make_task: builds the task; called in the worker.
        engine: the name that rows carry as their writer.
        special_tokens: returns those of the model's tokenizer; called in the worker. None where they are not known.
    """

    def __init__(
        self,
        make_task: Callable[[], LlmTask],
        engine: str,
        special_tokens: Callable[[], Sequence[str]] | None = None,
    ) -> None:
        self._make_task = make_task
        self._special_tokens = special_tokens
        self.engine = engine

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("task", "_renderer")}

    @cached_property
    def task(self) -> LlmTask:
        """The task of this process."""
        return self._make_task()

    @cached_property
    def _renderer(self) -> PromptRenderer:
        return PromptRenderer(self.task.prompt, self._special_tokens() if self._special_tokens else None)

    def row_id(self, row: Mapping[str, Any]) -> str:
        """Returns the row's value of the task's id column."""
        return str(row[self.task.id_column])

    def request(self, row: Mapping[str, Any]) -> Request | Answer:
        """Returns the row's request, or the answer that says why there is none."""
        try:
            return self.task.request(row)
        except (KeyError, ValueError) as error:
            return Answer(error=f"{NO_REQUEST}: {error}", permanent=True)

    def messages(self, request: Request) -> list[dict[str, str]]:
        """Returns the chat messages of a request."""
        return self._renderer.messages(request.fields)

    def result(self, row: Mapping[str, Any], answer: Answer) -> dict[str, Any]:
        """Returns the row of ``scratch_schema`` for an answer."""
        parsed: Parsed = parse(answer, self.task.reply)
        return self.task.result(row, parsed, self.engine) | {
            "reject_reason": parsed.reject_reason,
            "raw_answer": parsed.raw_answer,
            "input_tokens": answer.input_tokens,
            "output_tokens": answer.output_tokens,
            "retriable": parsed.retriable,
            "engine_seconds": answer.seconds,
        }

    def table(self, rows: Sequence[Mapping[str, Any]], answers: Sequence[Answer]) -> pa.Table:
        """Returns the rows of ``scratch_schema`` for a batch and its answers."""
        results = [self.result(row, answer) for row, answer in zip(rows, answers, strict=True)]
        return pa.Table.from_pylist(results, schema=scratch_schema(self.task.schema))
