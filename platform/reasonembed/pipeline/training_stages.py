"""The stages ``training_data``, ``batches``, ``train`` and ``index``: from training rows to a model and its index."""

from collections.abc import Mapping
from typing import Any

from reasonembed import storage
from reasonembed.artifacts import point_to
from reasonembed.pipeline.corpus_stages import Model, embeddings_of, model_location, named_model, own_corpus
from reasonembed.pipeline.remixer_stages import ASSEMBLE
from reasonembed.pipeline.stage import Build, Figures, Planner, Source, Stage, Step
from reasonembed.provenance import git_commit, versions
from reasonembed.redapter.model_card import Origin
from reasonembed.remixer.interchange import published_fingerprint, read_published

# ---- training_data: schemas.TRAINING of a folder in the published layout


def _build_training_data(build: Build) -> Figures:
    (uri,) = build.step.arguments
    table = read_published(uri)
    storage.write_table(table, storage.join(build.uri, "part-00000.parquet"))
    return {"rows": table.num_rows}


TRAINING_DATA = Stage(
    "training_data",
    version=1,
    inputs=lambda pipeline, uri: {"content": published_fingerprint(uri)},
    build=_build_training_data,
    parameters=lambda pipeline, uri: {"data": uri},
    defaults=lambda config: (config.train.data or "",),
    label=lambda pipeline, uri: f"training data {uri}",
)


def training_rows(pipeline: Planner) -> Step:
    """Returns the step that makes ``schemas.TRAINING``: from ``train.data`` where it is set, else by ReMixer."""
    return pipeline.step(TRAINING_DATA if pipeline.config.train.data else ASSEMBLE)


# ---- batches: redapter.batch_plan.BATCHES, the passages of every training step

BATCHES = Stage(
    "batches",
    version=2,
    settings=("train", "run"),
    inputs=lambda pipeline: {"training": training_rows(pipeline)},
    build=lambda build: build.backend.draw_batches(build.inputs["training"], build.config, build.uri),
)


# ---- train: the trained embedder


def _train_parameters(pipeline: Planner) -> Mapping[str, Any]:
    """Returns settings that affect the weights only together with others."""
    settings = pipeline.config.train
    parameters: dict[str, Any] = {"use_gpu": pipeline.config.cluster.train.gpus > 0}
    if settings.lora_dropout:
        parameters["workers"] = settings.workers  # each rank draws a dropout mask of its own
    if settings.dev_queries:
        parameters["checkpoint_steps"] = settings.checkpoint_steps  # the best checkpoint is exported
    return parameters


def _build_model(build: Build) -> Figures:
    config = build.config
    training = build.inputs["batches"].input("training")
    settings = config.train.model_dump() | {"seed": config.run.seed, "encode": config.encode.model_dump()}
    base_model = config.train.base_model
    origin = Origin(base_model, training.uri, training.fingerprint, git_commit(), versions(), settings)
    return build.backend.train(build.inputs["batches"], origin, config, build.uri)


TRAIN = Stage(
    "train",
    version=3,
    settings=("train", "encode.instruct", "encode.pooling", "run"),
    parameters=_train_parameters,
    inputs=lambda pipeline: {
        "batches": pipeline.step(BATCHES),
        "base_model": named_model(pipeline, "base").source,
    },
    build=_build_model,
)


def model_of(pipeline: Planner, name: str) -> Model:
    """Returns ``base``, ``trained``, or the model at a folder or hub id."""
    if name != "trained":
        return named_model(pipeline, name)
    return Model("trained", "", pipeline.step(TRAIN))


# ---- index: the search index of the corpus by index.model; <run.root>/index/latest names the newest


def _index_parameters(pipeline: Planner) -> Mapping[str, Any]:
    """Returns the location of a model that no stage made: the endpoint loads it from there."""
    model = model_of(pipeline, pipeline.config.index.model)
    return {"model": model.location} if model.location else {}


def _index_inputs(pipeline: Planner) -> Mapping[str, Source]:
    corpus, model = own_corpus(pipeline), model_of(pipeline, pipeline.config.index.model)
    return {"corpus": corpus, "embeddings": embeddings_of(pipeline, corpus, model), "model": model.source}


INDEX = Stage(
    "index",
    version=4,
    settings=("index", "encode", "run"),
    parameters=_index_parameters,
    details=lambda pipeline, inputs: {"model": model_location(model_of(pipeline, pipeline.config.index.model), inputs)},
    inputs=_index_inputs,
    build=lambda build: build.backend.build_index(
        build.inputs["corpus"], build.inputs["embeddings"], build.config, build.uri
    ),
    publish=point_to,
)
