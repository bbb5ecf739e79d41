"""The stages in order, and the pipeline that builds what is asked of it.

Asking for an artifact builds it, and before it everything that it needs. A finished stage is found by its fingerprint
and not run again, so that any job may be repeated after an interruption and continues where it was. Ray and torch are
imported where they are first needed: a run in which everything is finished imports neither.
"""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from reasonembed import artifacts, storage
from reasonembed.artifacts import Artifact, Identity
from reasonembed.config import Config
from reasonembed.config.section import read_settings, row_settings
from reasonembed.corpora import read_corpus
from reasonembed.pipeline.backend import Backend
from reasonembed.pipeline.changes import changes_of_paid_stage
from reasonembed.pipeline.corpus_stages import CORPUS, ENCODE, QUESTIONS
from reasonembed.pipeline.evaluation_stages import EVALUATE
from reasonembed.pipeline.ranking_stages import RANK
from reasonembed.pipeline.remixer_stages import ANNOTATE, ASSEMBLE, CLEAN, GENERATE, MINE, REWRITE
from reasonembed.pipeline.stage import Build, Stage, Step
from reasonembed.pipeline.training_stages import BATCHES, INDEX, TRAIN, TRAINING_DATA

log = logging.getLogger(__name__)

STAGES = (
    CORPUS,  # documents of a source
    QUESTIONS,  # questions and judgements of a benchmark
    CLEAN,  # documents that belong to their task's subject (optional)
    GENERATE,  # a query from each of a sample of documents
    REWRITE,  # reasoning rewrites of the queries
    ENCODE,  # documents as vectors
    MINE,  # candidates for every query
    ANNOTATE,  # a grade for every (query, candidate) pair
    ASSEMBLE,  # training rows
    TRAINING_DATA,  # training rows from elsewhere, instead
    BATCHES,  # the passages of every training step
    TRAIN,  # the trained embedder
    INDEX,  # the search index that is served
    RANK,  # a system's ranking of the documents for every question
    EVALUATE,  # measures of a ranking
)
BY_NAME = {stage.name: stage for stage in STAGES}


class Pipeline:
    """The stages of one configuration.

    Args:
        config: of all stages.
        backend: where the work runs.
        announce: called with a line of text when a stage starts, ends, or was finished before.
    """

    def __init__(self, config: Config, backend: Backend, announce: Callable[[str], None] = log.info) -> None:
        self.config = config
        self.backend = backend
        self.announce = announce
        self.artifacts: dict[str, Artifact] = {}
        """Every artifact that was asked for, by stage (and system)."""
        self._steps: dict[tuple[Any, ...], Step] = {}
        self._built: dict[Step, Artifact] = {}
        self._last_corpus: tuple[tuple[Any, ...], pa.Table] | None = None

    def run(self, stage: Stage | str, *arguments: Any) -> Artifact:
        """Returns the finished artifact of a stage, which is built if it does not exist."""
        return self.build(self.step(BY_NAME[stage] if isinstance(stage, str) else stage, *arguments))

    def step(self, stage: Stage, *arguments: Any) -> Step:
        """Returns a stage with its inputs and settings; builds nothing."""
        arguments = arguments or stage.defaults(self.config)
        if (stage, *arguments) not in self._steps:
            parameters = dict(stage.parameters(self, *arguments))
            rows = row_settings(self.config, stage.settings, stage.name, self.config.llm.engine)
            self._steps[stage, *arguments] = Step(
                stage,
                arguments,
                stage.inputs(self, *arguments),
                row_settings=parameters | rows,
                config=parameters | read_settings(self.config, stage.settings),
                label=stage.label(self, *arguments) or stage.name,
                key=stage.key(self, *arguments) or stage.name,
            )
        return self._steps[stage, *arguments]

    def build(self, step: Step) -> Artifact:
        """Returns the finished artifact of a step; its inputs are built first, in their order."""
        if step not in self._built:
            self._last_corpus = None
            inputs = {
                name: self.build(source) if isinstance(source, Step) else source for name, source in step.inputs.items()
            }
            self._built[step] = self._finish(step, inputs)
        return self._built[step]

    def read_corpus(self, source: str, tasks: tuple[str, ...] | None) -> pa.Table:
        """Returns ``schemas.CORPUS`` of a source. The last one is cached until something is built, because the
        questions of a benchmark are checked against its corpus, once for each split."""
        if self._last_corpus is None or self._last_corpus[0] != (source, tasks):
            self._last_corpus = (source, tasks), read_corpus(source, tasks)
        return self._last_corpus[1]

    def _finish(self, step: Step, inputs: Mapping[str, Artifact | str]) -> Artifact:
        root = self.config.run.root
        if not self.artifacts:
            storage.check_writable(root)  # before the first stage spends anything
        stage = step.stage
        config = {**step.config, **stage.details(self, inputs, *step.arguments)}
        identity = Identity(stage.name, stage.version, step.fingerprint, step.row_settings, config, inputs)
        started = time.time()
        artifact = artifacts.load(identity.folder(root))
        if artifact is not None:
            status = "done before, nothing to do"
        else:
            if changes := changes_of_paid_stage(root, identity):
                self.announce(f"{step.label}: {changes}")
            self.announce(f"{step.label}: starting")
            sources = {name: source for name, source in inputs.items() if isinstance(source, Artifact)}
            artifact = artifacts.build_artifact(
                root,
                identity,
                lambda uri: stage.build(Build(self, self.backend, step, sources, uri)),
                lambda holder: self.announce(f"{step.label}: waiting for {holder}, which is building it"),
            )
            status = f"done in {time.time() - started:.1f} s"
        self.announce(", ".join([f"{step.label}: {status}", *_summary(artifact.figures)]))
        self.artifacts[step.key] = artifact
        stage.publish(root, artifact)
        return artifact


def _summary(figures: Mapping[str, Any]) -> list[str]:
    """Returns the figures of a stage that are shown when it ends."""
    parts = []
    if (rows := figures.get("rows")) is not None:
        parts.append(f"{rows:,} rows")
    if figures.get("cached"):
        parts.append(f"{figures['cached']:,} of them encoded before")
    if rejects := figures.get("rejects"):
        reasons = "; ".join(f"{count:,} {reason}" for reason, count in list(rejects.items())[:3])
        parts.append(f"{sum(rejects.values()):,} rejected ({reasons})")
    if grades := figures.get("grades"):
        parts.append("grades " + ", ".join(f"{grade}: {count:,}" for grade, count in grades.items()))
    if figures.get("input_tokens"):
        parts.append(f"{figures['input_tokens']:,} tokens in, {figures['output_tokens']:,} out")
    if (rate := figures.get("prefix_cache_hit_rate")) is not None:
        parts.append(f"prefix cache {rate:.0%}")
    if hours := figures.get("gpu_hours"):
        parts.append(f"{hours:g} GPU-hours")
    return parts
