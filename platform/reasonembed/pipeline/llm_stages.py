"""What the LLM stages have in common: their inputs, and the job that is handed to the cluster.

``llm_stage`` makes a whole stage of a task that asks about the rows of one other stage.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pyarrow as pa

from reasonembed import artifacts, schemas, storage
from reasonembed.artifacts import Artifact
from reasonembed.config import Config, Sampling
from reasonembed.llm.engines import engine_of
from reasonembed.llm.job import LlmJob
from reasonembed.llm.protocol import LlmTask
from reasonembed.pipeline.corpus_stages import Model, embeddings_of, named_model, own_corpus
from reasonembed.pipeline.stage import Build, Figures, Planner, Source, Stage
from reasonembed.remixer.queries import usable_queries
from reasonembed.retrieval.embedded_corpus import EmbeddedCorpus


def llm_stage(task: type[LlmTask], version: int, reads: Stage) -> Stage:
    """Returns the stage of a task that asks about the accepted rows of another stage.

    The configuration section of the task's name has the sampling settings (``config.Sampling``).

    Args:
        task: takes no arguments.
        version: of the stage's code.
        reads: whose rows it asks about, ``schemas.QUERIES``.
    """

    def inputs(pipeline: Planner) -> Mapping[str, Source]:
        return {"queries": pipeline.step(reads), **llm_inputs(pipeline, task), **embedding_inputs(pipeline)}

    def build(build: Build) -> Figures:
        path = write_usable_queries(build.inputs["queries"], build.uri)
        return ask_llm(build, task, task, [path])

    return Stage(task.name, version, inputs, build, settings=llm_settings(task))


def llm_settings(task: type[LlmTask], *more: str) -> tuple[str, ...]:
    """Returns the settings that every LLM stage reads, and more."""
    return ("llm", task.name, "run", *more)


def llm_inputs(pipeline: Planner, task: type[LlmTask], **more: str) -> dict[str, Source]:
    """Returns hashes of the prompt, the model and the adapter, and more; nothing without a language model."""
    llm, sampling = pipeline.config.llm, sampling_of(pipeline.config, task)
    engine = engine_of(llm)
    if not engine.is_language_model:
        return {}
    inputs: dict[str, Source] = {
        "prompt": task.prompt.fingerprint,
        "model": engine.model_identity(engine.model(llm, sampling)),
        **more,
    }
    if adapter := engine.adapter(sampling):
        inputs["lora"] = engine.model_identity(adapter)
    return inputs


def embedding_inputs(pipeline: Planner) -> dict[str, Source]:
    """Returns the corpus with its vectors by the base model, which the extractive engine answers from."""
    if engine_of(pipeline.config.llm).is_language_model:
        return {}
    corpus = own_corpus(pipeline)
    return {"corpus": corpus, "embeddings": embeddings_of(pipeline, corpus, named_model(pipeline, "base"))}


def sampling_of(config: Config, task: type[LlmTask]) -> Sampling:
    """Returns the sampling settings of a task's stage."""
    sampling: Sampling = getattr(config, task.name)
    return sampling


def ask_llm(
    build: Build,
    task: type[LlmTask],
    make_task: Callable[[], LlmTask],
    files: list[str],
    grades: bool = False,
    reads: tuple[str, ...] = (),
    finish: Callable[[pa.Table], pa.Table] = lambda table: table,
) -> Figures:
    """Asks the configured engine about every row of the files.

    Args:
        build: of the stage.
        task: its class.
        make_task: builds the task; called in the workers.
        files: Parquet files of the rows.
        grades: the answers end with a grade whose log-probabilities are wanted.
        reads: names of inputs that the task loads into memory.
        finish: called with the finished rows, a table at a time; returns the rows to write.
    """
    engine_reads = ("corpus", "embeddings") if "embeddings" in build.inputs else ()
    job = LlmJob(
        build.step.stage.name,
        make_task,
        sampling_of(build.config, task),
        grades=grades,
        make_engine=extractive_engine(build),
        reads=[build.inputs[name] for name in dict.fromkeys((*reads, *engine_reads))],
        finish=finish,
    )
    return build.backend.ask_llm(job, build.config, files, build.uri)


def extractive_engine(build: Build) -> Callable[[], Any] | None:
    """Returns a function that builds the extractive engine in a worker; None for language models."""
    from reasonembed.llm.extractive import load_extractive_engine

    config = build.config
    if engine_of(config.llm).is_language_model:
        return None
    corpus = None
    if "embeddings" in build.inputs:
        corpus = embedded_corpus(build, named_model(build.pipeline, "base"), build.inputs["embeddings"])
    return partial(load_extractive_engine, corpus, config.llm.lexical_weight, config.rewrite.feedback_docs)


def embedded_corpus(build: Build, model: Model, embeddings: Artifact) -> EmbeddedCorpus:
    """Returns the corpus of a build with its vectors by a model, as it is sent to workers."""
    return EmbeddedCorpus(model.name, build.inputs["corpus"], embeddings, model.location, build.config.encode)


def write_usable_queries(queries: Artifact, uri: str) -> str:
    """Writes the accepted queries into an artifact's scratch folder and returns the file."""
    path = artifacts.scratch_uri(uri, "queries.parquet")
    storage.write_table(usable_queries(queries.table(schemas.QUERIES)), path)
    return path


def read_column(uri: str, schema: pa.Schema, name: str) -> pa.ChunkedArray:
    """Returns one column of the files below a URI."""
    files = [storage.join(uri, file) for file in storage.list_files(uri)]
    return storage.read_table(files, pa.schema([schema.field(name)]))[name]
