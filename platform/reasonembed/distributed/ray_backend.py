"""The cluster behind the pipeline: each method hands a stage's work to Ray.

Ray is imported where it is first needed, so that a pipeline in which everything is finished does not start it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reasonembed.artifacts import Artifact, scratch_uri
from reasonembed.config import Config, Resources
from reasonembed.distributed.default_resources import set_default_resources
from reasonembed.llm.job import LlmJob
from reasonembed.redapter.model_card import Origin
from reasonembed.retrieval.embedded_corpus import EmbeddedCorpus


class RayBackend:
    """Runs the work of stages on Ray; implements ``pipeline.backend.Backend``.

    Args:
        config: its ``cluster.data`` becomes the default resources of this process.
    """

    def __init__(self, config: Config) -> None:
        set_default_resources(config.cluster.data)

    def run_task(self, function: Callable[..., Any], *arguments: Any, resources: Resources | None = None) -> Any:
        """Calls a function on one worker."""
        from reasonembed.distributed.cluster import run_remote

        return run_remote(function, *arguments, resources=resources)

    def encode(
        self, corpus: Artifact, model: str, earlier: Sequence[Artifact], config: Config, uri: str
    ) -> Mapping[str, Any]:
        """Writes ``schemas.EMBEDDINGS`` of a corpus."""
        from reasonembed.distributed.data.encoding import encode_corpus

        return encode_corpus(corpus, model, config.encode, earlier, config.run, config.cluster.encode, uri)

    def ask_llm(self, job: LlmJob, config: Config, inputs: Sequence[str], uri: str) -> Mapping[str, Any]:
        """Asks the configured engine about every row of the input files."""
        from reasonembed.distributed.llm.llm_stage import run_llm_job

        return run_llm_job(job, config, inputs, uri)

    def mine(self, queries: str, corpora: Sequence[EmbeddedCorpus], config: Config, uri: str) -> Mapping[str, Any]:
        """Writes ``schemas.CANDIDATES``."""
        from reasonembed.distributed.data.mining import mine_queries

        return mine_queries(queries, corpora, config.mine, config.run, uri)

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
        from reasonembed.distributed.data.assembly import assemble_rows

        return assemble_rows(corpus, queries, rewrites, annotations, config.assemble, config.run, uri)

    def draw_batches(self, training: Artifact, config: Config, uri: str) -> Mapping[str, Any]:
        """Writes the passages of every training step."""
        from reasonembed.distributed.data.training_batches import write_batches

        return write_batches(training, config.train, config.run.seed, config.run, uri)

    def train(self, batches: Artifact, origin: Origin, config: Config, uri: str) -> Mapping[str, Any]:
        """Writes the trained model and the history of its training."""
        from reasonembed.distributed.train.trainer import TrainJob, batches_of, run_training

        arguments = (batches_of(batches), config.train, config.encode, config.run.seed, origin, uri)
        return run_training(TrainJob(*arguments, config.cluster.train))

    def build_index(self, corpus: Artifact, embeddings: Artifact, config: Config, uri: str) -> Mapping[str, Any]:
        """Writes the search index of a corpus."""
        from reasonembed.distributed.data.index_building import build_served_index
        from reasonembed.retrieval.index_job import IndexJob

        scratch = scratch_uri(uri, "index")
        arguments = (corpus, embeddings, config.index, config.run.seed, scratch, config.cluster.index)
        return build_served_index(IndexJob(*arguments), uri)
