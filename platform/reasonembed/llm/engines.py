"""The engines of ``llm.engine``: what the rest of the platform must know of each, without importing it.

How an engine runs on Ray is in ``distributed/llm``; its specification here decides fingerprints, cost estimates and the
shape of the stage.
"""

from dataclasses import dataclass
from pathlib import Path

from reasonembed.config import Cluster, Llm, Resources, Run, Sampling
from reasonembed.embedder.model_source import model_fingerprint
from reasonembed.llm.extractive import has_query_sentence


@dataclass(frozen=True)
class EngineSpec:
    """Specification of an engine. The base class describes ``extractive``, which has no model.

    The number of workers is ``run.actors``, each on the CPUs of ``cluster.data``.
    """

    name: str = "extractive"
    is_language_model: bool = False
    """Follows instructions, sampled conditions and prompts; an answer can differ from one attempt to the next."""
    has_metrics: bool = False
    """Exports vLLM's metrics through Ray."""
    loads_weights: bool = False
    """Loads the model itself, so that its folder and its tokenizer can be read."""

    def attempts(self, llm: Llm) -> int:
        """Returns how often a row is asked at most."""
        return 1 + llm.retries if self.is_language_model else 1

    def workers(self, llm: Llm, run: Run) -> int:
        """Returns how many workers ask at a time."""
        return run.actors

    def min_workers(self, llm: Llm, run: Run) -> int:
        """Returns the least number of workers of a pool that scales."""
        return self.workers(llm, run)

    def block_rows(self, llm: Llm, run: Run) -> int:
        """Returns the rows of a block, which is written and checkpointed as one."""
        return run.rows_per_block

    def resources(self, cluster: Cluster) -> Resources | None:
        """Returns where the whole stage runs; None for ``cluster.data``."""
        return None

    def gpus(self, llm: Llm, resources: Resources) -> int:
        """Returns the GPUs of one engine."""
        return 0

    def can_generate(self, title: str, text: str) -> bool:
        """Returns whether the engine can generate a query from a document."""
        return has_query_sentence(text, title)

    def model(self, llm: Llm, sampling: Sampling) -> str:
        """Returns the folder, hub id or server-side name of the model that a stage uses."""
        return ""

    def adapter(self, sampling: Sampling) -> str | None:
        """Returns the folder or hub id of the LoRA adapter that a stage uses."""
        return None

    def model_identity(self, model: str) -> str:
        """Returns what represents a model in fingerprints."""
        return model

    def label(self, llm: Llm, sampling: Sampling) -> str:
        """Returns the name that rows carry as their writer; of a folder only the last part, on every machine alike."""
        return self.name


@dataclass(frozen=True)
class LanguageModelSpec(EngineSpec):
    """An engine with a language model, which works on several batches at a time."""

    name: str = "http"
    is_language_model: bool = True

    def block_rows(self, llm: Llm, run: Run) -> int:
        """Half of ``run.rows_per_block`` for the concurrent batches of a worker together; the other half is for rows
        that the engine has answered and that are not written yet."""
        return max(1, run.rows_per_block // (2 * llm.concurrent_batches))

    def model(self, llm: Llm, sampling: Sampling) -> str:
        return sampling.model or llm.model or ""

    def adapter(self, sampling: Sampling) -> str | None:
        return sampling.lora.rstrip("/") if sampling.lora else None

    def model_identity(self, model: str) -> str:
        """The name, which a ``/`` at its end does not change; the server is sent the name as it is configured."""
        return model.rstrip("/")

    def can_generate(self, title: str, text: str) -> bool:
        return True

    def label(self, llm: Llm, sampling: Sampling) -> str:
        names = [self.model(llm, sampling).rstrip("/"), *filter(None, [self.adapter(sampling)])]
        return "+".join(Path(name).name if name.startswith(("/", ".", "~")) else name for name in names)


@dataclass(frozen=True)
class VllmSpec(LanguageModelSpec):
    """A pool of vLLM actors, as many as ``llm.actors`` allows, each on the resources of ``cluster.llm``."""

    name: str = "vllm"
    has_metrics: bool = True
    loads_weights: bool = True

    def model(self, llm: Llm, sampling: Sampling) -> str:
        return super().model(llm, sampling).rstrip("/")

    def workers(self, llm: Llm, run: Run) -> int:
        return llm.actors[1]

    def min_workers(self, llm: Llm, run: Run) -> int:
        return llm.actors[0]

    def resources(self, cluster: Cluster) -> Resources | None:
        return cluster.llm

    def gpus(self, llm: Llm, resources: Resources) -> int:
        return llm.tensor_parallel if resources.gpus else 0

    def model_identity(self, model: str) -> str:
        """The content of a folder; a hub id represents itself, because paid answers outlive a model's next revision."""
        return model_fingerprint(model) if Path(model).is_dir() else super().model_identity(model)


ENGINES: dict[str, EngineSpec] = {spec.name: spec for spec in (EngineSpec(), VllmSpec(), LanguageModelSpec())}


def engine_of(llm: Llm) -> EngineSpec:
    """Returns the specification of the configured engine."""
    return ENGINES[llm.engine]
