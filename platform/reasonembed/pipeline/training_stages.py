"""The stages from training rows to a trained model."""

from functools import cache
from typing import Any

from reasonembed import storage
from reasonembed.artifacts import Artifact, git_commit, versions
from reasonembed.pipeline.corpus_stages import Model, named_model
from reasonembed.pipeline.remixer_stages import RemixerStages

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


class TrainingStages(RemixerStages):
    def training_data(self) -> Artifact:
        """``schemas.TRAINING``: the rows of ``train.data`` where it is set, else ReMixer's."""
        return self._imported(self.config.train.data) if self.config.train.data else self.assemble()

    @cache  # noqa: B019
    def _imported(self, place: str) -> Artifact:
        from reasonembed.remixer.interchange import published_fingerprint, read_published

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
            from reasonembed.distributed.data.training_batches import write_batches

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
        place = self.config.cluster.train
        section |= {"use_gpu": place.gpus > 0, "seed": seed, "instruct": encode.instruct, "pooling": encode.pooling}

        def build(uri: str) -> dict[str, Any]:
            from reasonembed.distributed.train.trainer import TrainJob, batches_of, run_training
            from reasonembed.redapter.model_card import Origin

            told = settings.model_dump() | {"seed": seed, "encode": encode.model_dump()}
            origin = Origin(settings.base_model, training.uri, training.fingerprint, git_commit(), versions(), told)
            return run_training(TrainJob(batches_of(batches), settings, encode, seed, origin, uri, place))

        return self._stage("train", section, {"batches": batches, "base_model": base.source}, build)

    def model(self, name: str) -> Model:
        """``base``, ``trained``, or a model from elsewhere."""
        if name == "base":
            return self.base_model()
        if name == "trained":
            return self.trained_model()
        return named_model(name)

    @cache  # noqa: B019
    def trained_model(self) -> Model:
        trained = self.train()
        return Model("trained", storage.join(trained.uri, "model"), trained)
