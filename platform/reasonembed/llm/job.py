"""The work of one LLM stage, as the pipeline hands it to the cluster."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from reasonembed.artifacts import Artifact
from reasonembed.config import Sampling
from reasonembed.llm.protocol import LlmTask, LocalEngine


@dataclass(frozen=True)
class LlmJob:
    """The work of one LLM stage.

    Args:
        name: of the stage, for messages.
        make_task: builds the stage's task; called in the workers.
        sampling: settings of the stage.
        grades: the answers end with a grade whose log-probabilities are wanted.
        make_engine: builds an engine that lives in the worker's process; called there. Only for ``extractive``.
        reads: artifacts that such an engine loads into memory.
        finish: called with the finished rows, in order, a table at a time; returns the rows to write.
    """

    name: str
    make_task: Callable[[], LlmTask]
    sampling: Sampling
    grades: bool = False
    make_engine: Callable[[], LocalEngine] | None = None
    reads: Sequence[Artifact] = ()
    finish: Callable[[pa.Table], pa.Table] = lambda table: table
