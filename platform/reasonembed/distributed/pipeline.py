"""The flow of data, stage by stage. Asking for a stage's artefact makes it, and before it whatever it needs.

A stage that is finished is found by its fingerprint and not run again, so that any job may be repeated after an
interruption and goes on where it was. Ray and torch are imported where they are first needed: a run in which everything
is finished already starts neither.
"""

from functools import cache
from typing import Any

from reasonembed.artifacts import Artifact
from reasonembed.distributed.evaluation_stages import EvaluationStages


class Pipeline(EvaluationStages):
    """All stages of one configuration: ReMixer, training, evaluation, and the index that is served."""

    @cache  # noqa: B019
    def index(self) -> Artifact:
        corpus, model = self.corpus(), self.trained_model()
        embeddings = self.encode(corpus, model)

        def build(uri: str) -> dict[str, Any]:
            from reasonembed.distributed.session import run_remote
            from reasonembed.distributed.tasks import build_served_index

            return dict(run_remote(build_served_index, corpus, embeddings, uri))

        section = self.config.index.model_dump() | {"encode": self.config.encode.model_dump(), "model": model.place}
        return self._stage("index", section, {"corpus": corpus, "embeddings": embeddings, "model": model.source}, build)
