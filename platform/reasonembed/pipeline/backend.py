"""The interface to the cluster: what stages ask for, without knowing Ray. ``distributed.ray_backend`` implements it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from reasonembed.artifacts import Artifact
from reasonembed.config import Config, Resources
from reasonembed.llm.job import LlmJob
from reasonembed.redapter.model_card import Origin
from reasonembed.retrieval.embedded_corpus import EmbeddedCorpus


class Backend(Protocol):
    """Runs the work of stages. Each method writes data below ``uri`` and returns figures for the artifact's record."""

    def run_task(self, function: Callable[..., Any], *arguments: Any, resources: Resources | None = None) -> Any:
        """Calls a function on one worker, on ``cluster.data`` unless other resources are named."""
        ...

    def encode(
        self, corpus: Artifact, model: str, earlier: Sequence[Artifact], config: Config, uri: str
    ) -> Mapping[str, Any]:
        """Writes ``schemas.EMBEDDINGS`` of a corpus; vectors of earlier encodings are reused."""
        ...

    def ask_llm(self, job: LlmJob, config: Config, inputs: Sequence[str], uri: str) -> Mapping[str, Any]:
        """Asks the configured engine about every row of the input files and writes the rows of the job's task."""
        ...

    def mine(self, queries: str, corpora: Sequence[EmbeddedCorpus], config: Config, uri: str) -> Mapping[str, Any]:
        """Writes ``schemas.CANDIDATES`` for the queries of a file."""
        ...

    def assemble(
        self,
        corpus: Artifact,
        queries: Artifact,
        rewrites: Artifact,
        annotations: Artifact,
        config: Config,
        uri: str,
    ) -> Mapping[str, Any]:
        """Writes ``schemas.TRAINING``."""
        ...

    def draw_batches(self, training: Artifact, config: Config, uri: str) -> Mapping[str, Any]:
        """Writes the passages of every training step."""
        ...

    def train(self, batches: Artifact, origin: Origin, config: Config, uri: str) -> Mapping[str, Any]:
        """Writes the trained model and the history of its training."""
        ...

    def build_index(self, corpus: Artifact, embeddings: Artifact, config: Config, uri: str) -> Mapping[str, Any]:
        """Writes the search index of a corpus."""
        ...
