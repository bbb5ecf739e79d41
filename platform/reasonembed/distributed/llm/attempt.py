"""What an engine's transform is made from: one stage's way of asking, for one attempt."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.data import TaskPoolStrategy

from reasonembed.artifacts import Artifact
from reasonembed.config import Llm, Resources, Run, Sampling
from reasonembed.llm.protocol import LocalEngine
from reasonembed.llm.replies import json_schema
from reasonembed.llm.task_rows import TaskRows

# A fraction of a CPU for what waits on an engine or hardly works: on a small machine the engines need the rest.
LIGHT = {"num_cpus": 0.1}
LIKELIEST = 5  # log-probabilities asked for per token: one for every grade
RETRY_TEMPERATURE = 0.5


@dataclass(frozen=True)
class Asking:
    """One stage's way of asking, for one attempt.

    Args:
        rows: the stage's task.
        llm: the engine.
        sampling: of the stage.
        run: pool sizes, block size and seed.
        place: of an engine; of tensor parallel ones, of each of their GPUs.
        attempt: 0, then one more for every time that invalid answers are asked for again.
        grades: the answer ends with a grade whose probabilities are wanted.
        make_engine: of an engine that lives in the worker's process.
        reads: what such an engine has in memory.
        counter: of the meter.
    """

    rows: TaskRows
    llm: Llm
    sampling: Sampling
    run: Run
    place: Resources
    attempt: int = 0
    grades: bool = False
    make_engine: Callable[[], LocalEngine] | None = None
    reads: Sequence[Artifact] = ()
    counter: Any = None

    @property
    def model(self) -> str:
        return self.sampling.model or self.llm.model or ""

    @property
    def gpus(self) -> int:
        """Of one engine."""
        return self.llm.tensor_parallel if self.llm.engine == "vllm" and self.place.gpus else 0

    @property
    def after(self) -> dict[str, Any]:
        """How the steps behind the engines run: as many at a time as there are engines. For a fraction of a CPU alone
        Ray would start a process for every block that waits, hundreds of them on a large machine."""
        engines = self.llm.actors[1] if self.llm.engine == "vllm" else self.run.actors
        return {**LIGHT, "compute": TaskPoolStrategy(size=engines)}

    @property
    def batch_rows(self) -> int:
        """So many that an actor's concurrent batches are half of ``run.rows_per_block``; the other half is for what the
        engine has finished and nobody has written yet."""
        if self.llm.engine == "extractive":
            return self.run.rows_per_block
        return max(1, self.run.rows_per_block // (2 * self.llm.concurrent_batches))

    @property
    def temperature(self) -> float:
        least = RETRY_TEMPERATURE if self.attempt else 0.0
        return max(self.sampling.temperature, least)

    @property
    def schema(self) -> str:
        return json_schema(self.rows.task.reply, self.sampling.max_text_chars)


def engine_name(llm: Llm, sampling: Sampling) -> str:
    """What rows carry as their writer; of a folder only its name, so that rows do not depend on the machine."""
    if llm.engine == "extractive":
        return "extractive"
    parts = [_short_name(sampling.model or llm.model or "")]
    if sampling.lora:
        parts.append(_short_name(sampling.lora))
    return "+".join(parts)


def _short_name(model: str) -> str:
    return Path(model).name if model.startswith(("/", ".", "~")) else model
