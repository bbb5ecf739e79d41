"""The stages ``corpus``, ``questions`` and ``encode``: documents, a benchmark's questions, documents as vectors."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from reasonembed import artifacts, schemas, storage
from reasonembed.artifacts import Artifact
from reasonembed.config import Config
from reasonembed.corpora import ORIGINAL, evaluation_splits, read_documents, read_questions, usable_documents
from reasonembed.embedder.model_source import model_fingerprint
from reasonembed.errors import JobFailed
from reasonembed.ids import digest
from reasonembed.pipeline.stage import Build, Figures, Planner, Source, Stage, Step
from reasonembed.redapter.training_outputs import MODEL

REJECTED_FILE = "rejected.jsonl"
Tasks = tuple[str, ...] | None


@dataclass(frozen=True)
class Model:
    """A model as stages refer to it."""

    name: str
    """Label for people."""
    location: str
    """Folder, hub id or package; empty for a model that a stage of this run makes (``model_location``)."""
    source: Source
    """What made it, or the hash of its content."""


def model_at(name: str, location: str) -> Model:
    """Returns a model that no stage of this run has made: a folder, a hub id or a package."""
    return Model(name, location, model_fingerprint(location))


def named_model(pipeline: Planner, name: str) -> Model:
    """Returns ``base`` (``train.base_model``), or the model at a folder or hub id."""
    return model_at("base", pipeline.config.train.base_model) if name == "base" else model_at(Path(name).name, name)


def model_location(model: Model, inputs: Mapping[str, Artifact | str]) -> str:
    """Returns the folder, hub id or package of a model.

    Args:
        model: of a step.
        inputs: of the step, all finished; ``model`` is the training, where the model comes from one.
    """
    training = inputs["model"]
    return storage.join(training.uri, MODEL) if isinstance(training, Artifact) else model.location


def optional_tuple(values: Sequence[str] | None) -> Tasks:
    """Returns the values as a tuple, which can be a stage's argument."""
    return tuple(values) if values is not None else None


def value_counts(column: pa.ChunkedArray) -> dict[Any, int]:
    """Returns how often each value occurs."""
    return {entry["values"]: entry["counts"] for entry in column.value_counts().to_pylist()}


# ---- corpus: schemas.CORPUS of a source, a benchmark's too


def _corpus_inputs(pipeline: Planner, source: str, tasks: Tasks) -> Mapping[str, Source]:
    return {"content": _corpus_digest(pipeline.read_corpus(source, tasks))}


def _corpus_digest(table: pa.Table) -> str:
    columns = ("task", "doc_id", "title", "text")
    return digest(*(cell for column in columns for cell in table[column].to_pylist()))


def _build_corpus(build: Build) -> Figures:
    source, tasks = build.step.arguments
    run = build.config.run
    documents = read_documents(source, tasks)
    rejected = documents.filter(documents["reject_reason"].is_valid())
    rejects = value_counts(rejected["reject_reason"])
    if len(rejected) > run.max_reject_fraction * len(documents):
        top = "; ".join(f"{count} × {reason}" for reason, count in rejects.items())
        raise JobFailed(
            f"corpus {source}: {len(rejected)} of {len(documents)} documents cannot be used, more than "
            f"run.max_reject_fraction {run.max_reject_fraction:g} allows ({top})"
        )
    table = usable_documents(documents)
    if _corpus_digest(table) != build.step.inputs["content"]:
        raise JobFailed(f"corpus {source} changed while it was read; run the job again")
    storage.write_table(table, storage.join(build.uri, "corpus.parquet"))
    if len(rejected):
        lines = [json.dumps(row) for row in rejected.select(["task", "doc_id", "reject_reason"]).to_pylist()]
        storage.write_bytes(storage.join(build.uri, REJECTED_FILE), "\n".join([*lines, ""]).encode())
    return {"rows": table.num_rows, "rejects": rejects, "documents": value_counts(table["task"])}


def _own_corpus(config: Config) -> tuple[str, Tasks]:
    return config.corpus.source, optional_tuple(config.corpus.tasks)


CORPUS = Stage(
    "corpus",
    version=1,
    inputs=_corpus_inputs,
    build=_build_corpus,
    parameters=lambda pipeline, source, tasks: {"source": source, "tasks": tasks and list(tasks)},
    defaults=_own_corpus,
    label=lambda pipeline, source, tasks: f"corpus {source}",
)


# ---- questions: schemas.QUESTIONS of a benchmark


def _questions_inputs(pipeline: Planner, source: str, split: str, tasks: Tasks, queries: str) -> Mapping[str, Source]:
    table = read_questions(source, split, pipeline.read_corpus(source, tasks), tasks, queries)
    content = digest(*(str(row) for row in table.to_pylist()))
    return {"corpus": pipeline.step(CORPUS, source, tasks), "content": content}


def _build_questions(build: Build) -> Figures:
    source, split, tasks, queries = build.step.arguments
    table = read_questions(source, split, build.inputs["corpus"].table(schemas.CORPUS), tasks, queries)
    storage.write_table(table, storage.join(build.uri, "questions.parquet"))
    return {"rows": table.num_rows}


def _questions_parameters(pipeline: Planner, source: str, split: str, tasks: Tasks, queries: str) -> Mapping[str, Any]:
    parameters = {"source": source, "split": split, "tasks": tasks and list(tasks)}
    return parameters | ({"queries": queries} if queries != ORIGINAL else {})


QUESTIONS = Stage(
    "questions",
    version=1,
    inputs=_questions_inputs,
    build=_build_questions,
    parameters=_questions_parameters,
    defaults=lambda config: (*_own_corpus(config)[:1], config.evaluate.split, _own_corpus(config)[1], ORIGINAL),
    label=lambda pipeline, source, split, tasks, queries: f"questions {source}, {split}",
    key=lambda pipeline, source, *rest: None if source == pipeline.config.corpus.source else f"questions {source}",
)


# ---- encode: schemas.EMBEDDINGS of a corpus, shared by all stages that search it with one model


def _build_embeddings(build: Build) -> Figures:
    model: Model = build.step.arguments[1]
    source = build.inputs["model"] if "model" in build.inputs else str(model.source)
    identity, location = artifacts.recorded(source), model_location(model, {"model": source})
    earlier = [
        artifact
        for artifact in artifacts.finished(build.config.run.root, ENCODE.name)
        if artifact.record.get("row_settings") == build.step.row_settings
        and artifact.record["inputs"]["model"] == identity
        and artifact.record["code_version"] == ENCODE.version
    ]
    return build.backend.encode(build.inputs["corpus"], location, earlier, build.config, build.uri)


ENCODE = Stage(
    "encode",
    version=4,
    settings=("encode",),
    inputs=lambda pipeline, corpus, model: {"corpus": corpus, "model": model.source},
    build=_build_embeddings,
    label=lambda pipeline, corpus, model: f"encode with {model.name}",
    key=lambda pipeline, corpus, model: f"encode {model.name}",
)


def own_corpus(pipeline: Planner) -> Step:
    """Returns the step that reads the configured corpus."""
    return pipeline.step(CORPUS)


def embeddings_of(pipeline: Planner, corpus: Step, model: Model) -> Step:
    """Returns the step that encodes a corpus with a model."""
    return pipeline.step(ENCODE, corpus, model)


def judged_questions(pipeline: Planner) -> dict[str, Step]:
    """Returns the questions of every benchmark that training data must not contain, by the name of the input."""
    config = pipeline.config
    own = config.corpus.source
    sources = dict.fromkeys([own, *config.generate.protect, *filter(None, [config.evaluate.benchmark])])
    steps = {}
    for number, source in enumerate(sources):
        tasks = optional_tuple(config.corpus.tasks) if source == own else None
        for split in evaluation_splits(source):
            steps[f"judged-{number}-{split}"] = pipeline.step(QUESTIONS, source, split, tasks, ORIGINAL)
    return steps


def judged_artifacts(inputs: Mapping[str, Artifact]) -> list[Artifact]:
    """Returns those of a build's inputs that ``judged_questions`` named."""
    return [artifact for name, artifact in inputs.items() if name.startswith("judged-")]
