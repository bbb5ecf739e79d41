"""The flow of data, stage by stage. Asking for a stage's artefact makes it, and before it whatever it needs.

A stage that is finished is found by its fingerprint and not run again, so that any job may be repeated after an
interruption and goes on where it was. Ray and torch are imported where they are first needed: a run in which everything
is finished already starts neither.
"""

from functools import cache
from typing import Any

from reasonembed import storage
from reasonembed.artifacts import Artifact, git_commit, versions
from reasonembed.distributed.corpus_stages import Model, as_tuple, named_model
from reasonembed.distributed.remixer_stages import RemixerStages

# What decides the stage `batches`, and what of training decides no weights.
BATCHING = {"steps", "epochs", "batch_size", "group_size", "shapes", "positives", "negatives", "dev_queries"}
LAYOUT = {
    "base_model",
    "data",
    "dry_run",
    "workers",
    "min_workers",
    "gradient_checkpointing",
    "grad_cache",
    "batch_tokens",
}


class Pipeline(RemixerStages):
    """All stages of one configuration: those of ReMixer, and from training rows on to a judged model."""

    def training_data(self) -> Artifact:
        """``schemas.TRAINING``: the rows of ``train.data`` where it is set, else ReMixer's."""
        return self._imported(self.config.train.data) if self.config.train.data else self.assemble()

    @cache  # noqa: B019
    def _imported(self, place: str) -> Artifact:
        from reasonembed.interchange import published_fingerprint, read_published

        def build(uri: str) -> dict[str, Any]:
            table = read_published(place)
            storage.write_table(table, storage.join(uri, "part-00000.parquet"))
            return {"rows": table.num_rows}

        inputs = {"content": published_fingerprint(place)}
        return self._stage("training_data", {"data": place}, inputs, build, label=f"training data {place}")

    @cache  # noqa: B019
    def batches(self) -> Artifact:
        """``redapter.batches.BATCHES``: what every step of training sees."""
        training, settings, run = self.training_data(), self.config.train, self.config.run

        def build(uri: str) -> dict[str, Any]:
            from reasonembed.distributed.batching import write_batches

            return write_batches(training, settings, run.seed, run, uri)

        section = settings.model_dump(include=BATCHING) | {"seed": run.seed}
        return self._stage("batches", section, {"training": training}, build)

    @cache  # noqa: B019
    def train(self) -> Artifact:
        settings, encode, seed = self.config.train, self.config.encode, self.config.run.seed
        training, batches, base = self.training_data(), self.batches(), self.base_model()
        # How the work is laid out changes nothing in the result; with dropout the workers' number does.
        layout = LAYOUT - ({"workers"} if settings.lora_dropout else set())
        # So does, with dev queries, when they are looked at: the best checkpoint is what stays.
        layout |= set() if settings.dev_queries else {"checkpoint_steps"}
        section = settings.model_dump(exclude=BATCHING | layout)
        section |= {"seed": seed, "instruct": encode.instruct, "pooling": encode.pooling}

        def build(uri: str) -> dict[str, Any]:
            from reasonembed.distributed.training import TrainJob, batches_of, run_training
            from reasonembed.redapter.card import Origin

            told = settings.model_dump() | {"seed": seed, "encode": encode.model_dump()}
            origin = Origin(settings.base_model, training.uri, training.fingerprint, git_commit(), versions(), told)
            return run_training(TrainJob(batches_of(batches), settings, encode, seed, origin, uri))

        return self._stage("train", section, {"batches": batches, "base_model": base.source}, build)

    @cache  # noqa: B019
    def index(self) -> Artifact:
        corpus, model = self.corpus(), self._trained_model()
        embeddings = self.encode(corpus, model)

        def build(uri: str) -> dict[str, Any]:
            from reasonembed.distributed.session import run_remote
            from reasonembed.distributed.tasks import build_served_index

            return dict(run_remote(build_served_index, corpus, embeddings, uri))

        section = self.config.index.model_dump() | {"encode": self.config.encode.model_dump(), "model": model.place}
        return self._stage("index", section, {"corpus": corpus, "embeddings": embeddings, "model": model.source}, build)

    @cache  # noqa: B019
    def evaluate(self, name: str | None = None) -> Artifact:
        """One system (``evaluate.model`` unless named) on ``evaluate.benchmark``."""
        settings = self.config.evaluate
        name = name or settings.model
        source = settings.benchmark or self.config.corpus.source
        tasks = as_tuple(settings.tasks)
        corpus = self.corpus_of(source, tasks)
        questions = self.questions(source, settings.split, tasks)
        inputs: dict[str, Artifact | str] = {"corpus": corpus, "questions": questions}
        model = embeddings = None
        if name != "bm25":
            model = self._model(name)
            embeddings = self.encode(corpus, model)
            inputs |= {"embeddings": embeddings, "model": model.source}
        config = self.config.model_copy(update={"evaluate": settings.model_copy(update={"benchmark": source})})

        def build(uri: str) -> dict[str, Any]:
            from reasonembed.distributed.session import run_remote
            from reasonembed.distributed.tasks import evaluate_on

            place = model.place if model else None
            return dict(run_remote(evaluate_on, name, config, corpus, questions, embeddings, place, uri))

        section = {
            "system": name,
            "bootstrap": settings.bootstrap,
            "seed": self.config.run.seed,
            "encode": self.config.encode.model_dump(exclude={"batch_tokens"}),
        }
        return self._stage("evaluate", section, inputs, build, label=f"evaluate {name}", key=f"evaluate {name}")

    # ---- helpers

    @cache  # noqa: B019
    def _trained_model(self) -> Model:
        trained = self.train()
        return Model("trained", storage.join(trained.uri, "model"), trained)

    def _model(self, name: str) -> Model:
        if name == "base":
            return self.base_model()
        if name == "trained":
            return self._trained_model()
        return named_model(name)
