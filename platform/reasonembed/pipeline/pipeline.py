"""The flow of data, stage by stage. Asking for a stage's artefact makes it, and before it whatever it needs.

A stage that is finished is found by its fingerprint and not run again, so that any job may be repeated after an
interruption and goes on where it was. Ray and torch are imported where they are first needed: a run in which everything
is finished already starts neither.
"""

from functools import cache
from typing import Any

from reasonembed.artifacts import Artifact, point_to
from reasonembed.pipeline.evaluation_stages import EvaluationStages


class Pipeline(EvaluationStages):
    """All stages of one configuration: ReMixer, training, evaluation, and the index that is served."""

    @cache  # noqa: B019
    def index(self) -> Artifact:
        """The FAISS index of the corpus by ``index.model``; ``<run.root>/index/latest`` names the newest."""
        settings, seed = self.config.index, self.config.run.seed
        corpus, model = self.corpus(), self.model(settings.model)
        embeddings = self.encode(corpus, model)

        def build(uri: str) -> dict[str, Any]:
            from reasonembed.distributed.data.index_building import IndexJob, build_served_index

            return build_served_index(IndexJob(corpus, embeddings, settings, seed, uri, self.config.cluster.index))

        section: dict[str, Any] = {
            "index": settings.model_dump(exclude={"model"}),
            "encode": self.config.encode.model_dump(),
            "model": model.place,
            "seed": seed,
        }
        inputs = {"corpus": corpus, "embeddings": embeddings, "model": model.source}
        index = self._stage("index", section, inputs, build)
        point_to(self.config.run.root, index)
        return index
