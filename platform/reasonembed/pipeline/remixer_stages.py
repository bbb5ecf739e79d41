"""ReMixer's stages, from a corpus to training rows: clean, generate, rewrite, mine, annotate, assemble."""

from collections.abc import Iterable, Mapping
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from reasonembed import artifacts, schemas, storage
from reasonembed.artifacts import Artifact
from reasonembed.config import Generate
from reasonembed.corpora import retrieval_instructions
from reasonembed.errors import JobFailed
from reasonembed.llm.engines import engine_of
from reasonembed.pipeline.corpus_stages import (
    Model,
    embeddings_of,
    judged_artifacts,
    judged_questions,
    named_model,
    own_corpus,
    value_counts,
)
from reasonembed.pipeline.llm_stages import (
    ask_llm,
    embedded_corpus,
    embedding_inputs,
    llm_inputs,
    llm_settings,
    llm_stage,
    read_column,
    write_usable_queries,
)
from reasonembed.pipeline.stage import Build, Figures, Planner, Source, Stage
from reasonembed.remixer.annotate import AnnotateTask, definitions_fingerprint, load_annotate_task
from reasonembed.remixer.clean import CleanTask
from reasonembed.remixer.generate import GenerateTask
from reasonembed.remixer.query_filter import QueryFilter
from reasonembed.remixer.rewrite import RewriteTask
from reasonembed.remixer.sources import eligible_sources, judged_texts, sample_sources


def eligible_documents(corpus: Artifact, judged: Iterable[Artifact], settings: Generate) -> pa.Table:
    """Returns ``remixer.sources.SOURCES`` that no protected benchmark judges.

    Args:
        corpus: ``schemas.CORPUS``.
        judged: ``schemas.QUESTIONS`` of the protected benchmarks.
        settings: bounds of the length.
    """
    protected: set[str] = set()
    for questions in judged:
        protected |= judged_texts(questions.input("corpus").table(schemas.CORPUS), questions.table(schemas.QUESTIONS))
    return eligible_sources(corpus.table(schemas.CORPUS), protected, settings)


# ---- clean: schemas.CLEANED of the documents that may be sources


def _clean_inputs(pipeline: Planner) -> Mapping[str, Source]:
    return {"corpus": own_corpus(pipeline), **judged_questions(pipeline), **llm_inputs(pipeline, CleanTask)}


def _build_cleaned(build: Build) -> Figures:
    config = build.config
    path = artifacts.scratch_uri(build.uri, "eligible.parquet")
    judged = judged_artifacts(build.inputs)
    storage.write_table(eligible_documents(build.inputs["corpus"], judged, config.generate), path)
    figures = ask_llm(build, CleanTask, partial(CleanTask, config.clean.subjects), [path])
    belongs = read_column(build.uri, schemas.CLEANED, "belongs").drop_null()
    return {**figures, "belong": value_counts(belongs).get(True, 0)}


CLEAN = Stage(
    "clean",
    version=2,
    settings=llm_settings(CleanTask, "generate.min_chars", "generate.max_chars"),
    inputs=_clean_inputs,
    build=_build_cleaned,
)


# ---- generate: schemas.QUERIES


def _generate_inputs(pipeline: Planner) -> Mapping[str, Source]:
    cleaned = {"cleaned": pipeline.step(CLEAN)} if pipeline.config.clean.enabled else {}
    sources = {"corpus": own_corpus(pipeline), **judged_questions(pipeline)}
    return {**sources, **cleaned, **llm_inputs(pipeline, GenerateTask)}


def _build_queries(build: Build) -> Figures:
    config, settings = build.config, build.config.generate
    judged = judged_artifacts(build.inputs)
    eligible = eligible_documents(build.inputs["corpus"], judged, settings)
    cleaned = build.inputs.get("cleaned")
    if cleaned is not None:
        rows = cleaned.table(schemas.CLEANED)
        belonging = rows.filter(pc.equal(rows["belongs"], True))["query_id"]
        eligible = eligible.filter(pc.is_in(eligible["query_id"], value_set=belonging.combine_chunks()))
    engine = engine_of(config.llm)
    sources = sample_sources(eligible, settings, config.run.seed, engine.can_generate)
    if sources.num_rows == 0:
        raise JobFailed(
            f"generate: no document of corpus {config.corpus.source} can be a source: none of generate.min_chars "
            f"{settings.min_chars} to max_chars {settings.max_chars}, not judged by a benchmark"
            f"{', belonging to its task' if cleaned is not None else ''}, lets {engine.name} generate a query"
        )
    path = artifacts.scratch_uri(build.uri, "sources.parquet")
    storage.write_table(sources, path)
    questions = pa.concat_tables(
        [schemas.QUESTIONS.empty_table(), *(artifact.table(schemas.QUESTIONS) for artifact in judged)]
    )
    instructions = {row["task"]: row["instruction"] for row in questions.to_pylist() if row["instruction"]}
    instructions |= retrieval_instructions(config.corpus.source)
    # Sampled conditions are for an engine that can follow them.
    seed = config.run.seed if engine.is_language_model else None
    return ask_llm(
        build,
        GenerateTask,
        partial(GenerateTask, instructions, seed),
        [path],
        finish=QueryFilter(questions["query"].to_pylist(), settings.near_question),
    )


GENERATE = Stage(
    "generate",
    version=3,
    settings=llm_settings(GenerateTask),
    inputs=_generate_inputs,
    build=_build_queries,
)


# ---- rewrite: schemas.REWRITES

REWRITE = llm_stage(RewriteTask, version=3, reads=GENERATE)


# ---- mine: schemas.CANDIDATES


def _retrievers(pipeline: Planner) -> list[Model]:
    return [named_model(pipeline, name) for name in pipeline.config.mine.models]


def _mine_inputs(pipeline: Planner) -> Mapping[str, Source]:
    corpus = own_corpus(pipeline)
    embeddings = {
        f"embeddings-{number}": embeddings_of(pipeline, corpus, model)
        for number, model in enumerate(_retrievers(pipeline))
    }
    return {"queries": pipeline.step(GENERATE), "corpus": corpus, **embeddings}


def _build_candidates(build: Build) -> Figures:
    corpora = [
        embedded_corpus(build, model, build.inputs[f"embeddings-{number}"])
        for number, model in enumerate(_retrievers(build.pipeline))
    ]
    queries = write_usable_queries(build.inputs["queries"], build.uri)
    return build.backend.mine(queries, corpora, build.config, build.uri)


MINE = Stage("mine", version=3, settings=("mine",), inputs=_mine_inputs, build=_build_candidates)


# ---- annotate: schemas.ANNOTATIONS


def _annotate_inputs(pipeline: Planner) -> Mapping[str, Source]:
    return {
        "queries": pipeline.step(GENERATE),
        "candidates": pipeline.step(MINE),
        "corpus": own_corpus(pipeline),
        **llm_inputs(pipeline, AnnotateTask, definitions=definitions_fingerprint()),
        **embedding_inputs(pipeline),
    }


def _build_annotations(build: Build) -> Figures:
    settings = build.config.annotate
    queries, corpus = build.inputs["queries"], build.inputs["corpus"]
    figures = ask_llm(
        build,
        AnnotateTask,
        partial(load_annotate_task, queries, corpus, settings.relevance),
        build.inputs["candidates"].parquet(),
        grades=settings.expected_grade,
        reads=("queries", "corpus"),
    )
    grades = value_counts(read_column(build.uri, schemas.ANNOTATIONS, "grade").drop_null())
    return {**figures, "grades": {str(grade): count for grade, count in sorted(grades.items())}}


ANNOTATE = Stage(
    "annotate",
    version=3,
    settings=llm_settings(AnnotateTask, "rewrite.feedback_docs"),
    inputs=_annotate_inputs,
    build=_build_annotations,
)


# ---- assemble: schemas.TRAINING


def _assemble_inputs(pipeline: Planner) -> Mapping[str, Source]:
    return {
        "corpus": own_corpus(pipeline),
        "queries": pipeline.step(GENERATE),
        "rewrites": pipeline.step(REWRITE),
        "annotations": pipeline.step(ANNOTATE),
    }


def _build_training_rows(build: Build) -> Figures:
    return build.backend.assemble(
        build.inputs["corpus"],
        build.inputs["queries"],
        build.inputs["rewrites"],
        build.inputs["annotations"],
        build.config,
        build.uri,
    )


ASSEMBLE = Stage("assemble", version=2, settings=("assemble",), inputs=_assemble_inputs, build=_build_training_rows)
