"""One attempt of an LLM stage: everything that an engine's adapter needs to build its Ray Data transform."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ray.data import TaskPoolStrategy

from reasonembed.artifacts import Artifact
from reasonembed.config import Llm, Resources, Run, Sampling
from reasonembed.llm.engines import EngineSpec, engine_of
from reasonembed.llm.parsing import json_schema
from reasonembed.llm.protocol import LocalEngine
from reasonembed.llm.task_rows import TaskRows

LIGHT = {"num_cpus": 0.1}
"""Resources of steps that mostly wait for an engine: on a small machine the engines need the CPUs."""
TOP_LOGPROBS = 5
"""Log-probabilities per token: one for each grade."""
RETRY_TEMPERATURE = 0.5
"""Least temperature of a repeated attempt; a greedy answer would be the same again."""


@dataclass(frozen=True)
class Attempt:
    """One pass of an LLM stage over its rows.

    Args:
        rows: the stage's task.
        llm: settings of the engine.
        sampling: settings of the stage.
        run: number of workers, block size and seed.
        resources: of one engine; of each GPU's worker where engines are tensor parallel.
        number: 0 for the first attempt; later ones repeat rows with invalid answers.
        grades: the answers end with a grade whose log-probabilities are wanted.
        make_engine: builds an engine that lives in the worker's process; called there.
        reads: artifacts that such an engine loads into memory.
        usage: handle of the actor that counts rows and tokens.
    """

    rows: TaskRows
    llm: Llm
    sampling: Sampling
    run: Run
    resources: Resources
    number: int = 0
    grades: bool = False
    make_engine: Callable[[], LocalEngine] | None = None
    reads: Sequence[Artifact] = ()
    usage: Any = None

    @cached_property
    def engine(self) -> EngineSpec:
        """The engine's specification."""
        return engine_of(self.llm)

    @property
    def model(self) -> str:
        """Folder, hub id or server-side name of the model."""
        return self.engine.model(self.llm, self.sampling)

    @property
    def adapter(self) -> str | None:
        """Folder or hub id of the LoRA adapter on the model."""
        return self.engine.adapter(self.sampling)

    @property
    def workers(self) -> int:
        """Workers that ask at a time, at most."""
        return self.engine.workers(self.llm, self.run)

    @property
    def block_rows(self) -> int:
        """Rows of a block, which is also a batch of an engine."""
        return self.engine.block_rows(self.llm, self.run)

    @property
    def light_tasks(self) -> dict[str, Any]:
        """Options of steps behind the engines: as many tasks as there are engines. Given only a fraction of a CPU, Ray
        would start a process for every waiting block, hundreds of them on a large machine."""
        return {**LIGHT, "compute": TaskPoolStrategy(size=self.workers)}

    @property
    def temperature(self) -> float:
        """Temperature of this attempt."""
        return max(self.sampling.temperature, RETRY_TEMPERATURE if self.number else 0.0)

    @property
    def reply_schema(self) -> str | None:
        """JSON schema for constrained decoding; None where decoding is not constrained."""
        return json_schema(self.rows.task.reply, self.sampling.max_text_chars) if self.llm.constrained else None
