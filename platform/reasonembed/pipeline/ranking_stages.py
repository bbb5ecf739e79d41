"""The stage ``rank``: the ranking of a benchmark's documents by one system, several fused, or a run file."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from reasonembed import schemas, storage
from reasonembed.artifacts import scratch_uri
from reasonembed.config import Config
from reasonembed.corpora import ORIGINAL
from reasonembed.errors import UserError
from reasonembed.ids import digest
from reasonembed.llm.engines import engine_of
from reasonembed.pipeline.corpus_stages import CORPUS, QUESTIONS, embeddings_of, model_location, optional_tuple
from reasonembed.pipeline.llm_stages import ask_llm, llm_inputs
from reasonembed.pipeline.remixer_stages import REWRITE
from reasonembed.pipeline.stage import Build, Figures, Planner, Source, Stage, Step
from reasonembed.pipeline.training_stages import model_of
from reasonembed.remixer.rewrite import RewriteTask, question_rows

BM25_WEIGHTS = {"bm25": "count", "bm25-query-side": "bm25"}
"""Systems that are BM25, with their weights of the query's words."""
REWRITTEN = "rewritten"


def benchmark_steps(pipeline: Planner) -> tuple[Step, Step]:
    """Returns the steps of the benchmark's corpus and questions."""
    settings = pipeline.config.evaluate
    source, tasks = benchmark_of(pipeline.config), optional_tuple(settings.tasks)
    queries = ORIGINAL if settings.queries == REWRITTEN else settings.queries
    return pipeline.step(CORPUS, source, tasks), pipeline.step(QUESTIONS, source, settings.split, tasks, queries)


def benchmark_of(config: Config) -> str:
    """Returns the source of the benchmark: ``evaluate.benchmark``, or the corpus's own questions."""
    return config.evaluate.benchmark or config.corpus.source


# ---- rewrites of a benchmark's questions (evaluate.queries=rewritten), by the language model of the stage rewrite


def _rewritten_inputs(pipeline: Planner) -> Mapping[str, Source]:
    if not engine_of(pipeline.config.llm).is_language_model:
        raise UserError(
            "evaluate.queries=rewritten needs a language model: set llm.engine to vllm or http, and llm.model"
        )
    return {"questions": benchmark_steps(pipeline)[1], **llm_inputs(pipeline, RewriteTask)}


def _build_rewritten(build: Build) -> Figures:
    path = scratch_uri(build.uri, "questions.parquet")
    storage.write_table(question_rows(build.inputs["questions"].table(schemas.QUESTIONS)), path)
    return ask_llm(build, RewriteTask, RewriteTask, [path])


REWRITE_QUESTIONS = replace(
    REWRITE,
    inputs=_rewritten_inputs,
    build=_build_rewritten,
    label=lambda pipeline: "rewrite questions",
    key=lambda pipeline: "rewritten",
)


# ---- rank: schemas.RANKING of BM25 or a dense model, of several systems fused, or of a run file


def _question_inputs(pipeline: Planner) -> dict[str, Source]:
    corpus, questions = benchmark_steps(pipeline)
    inputs: dict[str, Source] = {"corpus": corpus, "questions": questions}
    if pipeline.config.evaluate.queries == REWRITTEN:
        inputs["rewritten"] = pipeline.step(REWRITE_QUESTIONS)
    return inputs


def _build_bm25_ranking(build: Build) -> Figures:
    from reasonembed.pipeline.benchmark_tasks import rank_with_bm25

    (system,) = build.step.arguments
    inputs = build.inputs
    arguments = (inputs["corpus"], inputs["questions"], inputs.get("rewritten"), BM25_WEIGHTS[system], build.uri)
    return dict(build.backend.run_task(rank_with_bm25, *arguments))


def _dense_inputs(pipeline: Planner, name: str) -> Mapping[str, Source]:
    inputs, model = _question_inputs(pipeline), model_of(pipeline, name)
    corpus = inputs["corpus"]
    assert isinstance(corpus, Step)
    return {**inputs, "embeddings": embeddings_of(pipeline, corpus, model), "model": model.source}


def _build_dense_ranking(build: Build) -> Figures:
    from reasonembed.pipeline.benchmark_tasks import rank_with_model

    (name,) = build.step.arguments
    model = model_of(build.pipeline, name)
    inputs, resources = build.inputs, build.config.cluster.encode
    arguments = (
        inputs["corpus"],
        inputs["questions"],
        inputs.get("rewritten"),
        inputs["embeddings"],
        model_location(model, {"model": build.inputs.get("model", str(model.source))}),
        build.config.encode,
        resources.device,
        build.uri,
    )
    return dict(build.backend.run_task(rank_with_model, *arguments, resources=resources))


def _fused_inputs(pipeline: Planner, systems: tuple[str, ...]) -> Mapping[str, Source]:
    return {f"ranking-{number}": ranking_step(pipeline, name) for number, name in enumerate(systems)}


def _fusion_parameters(pipeline: Planner, systems: tuple[str, ...]) -> Mapping[str, Any]:
    settings = pipeline.config.evaluate
    weights = settings.fusion_weights or [1 / len(systems)] * len(systems)
    return {"fusion": settings.fusion, "weights": list(weights)}


def _build_fused_ranking(build: Build) -> Figures:
    from reasonembed.evaluation.ranking import RANKING_FILE, fuse_rankings

    fusion, weights = (build.step.row_settings[name] for name in ("fusion", "weights"))
    fused = fuse_rankings([ranking.table(schemas.RANKING) for ranking in build.inputs.values()], fusion, weights)
    storage.write_table(fused, storage.join(build.uri, RANKING_FILE))
    return {"rows": fused.num_rows}


def _build_ranking_of_run(build: Build) -> Figures:
    from reasonembed.evaluation.ranking import RANKING_FILE
    from reasonembed.evaluation.trec import ranking_from_run, read_run

    (run,) = build.step.arguments
    ranking = ranking_from_run(read_run(run), build.inputs["questions"].table(schemas.QUESTIONS), run)
    storage.write_table(ranking, storage.join(build.uri, RANKING_FILE))
    return {"rows": ranking.num_rows}


RANK = Stage(
    "rank",
    version=2,
    parameters=lambda pipeline, system: {"system": system},
    inputs=lambda pipeline, system: _question_inputs(pipeline),
    build=_build_bm25_ranking,
    label=lambda pipeline, system: f"rank with {system}",
    key=lambda pipeline, system: f"rank {system}",
)
RANK_BY_MODEL = replace(
    RANK,
    settings=("encode",),
    parameters=lambda pipeline, name: {"system": "dense"},
    inputs=_dense_inputs,
    build=_build_dense_ranking,
)
FUSE_RANKINGS = replace(
    RANK,
    parameters=_fusion_parameters,
    inputs=_fused_inputs,
    build=_build_fused_ranking,
    label=lambda pipeline, systems: "fuse " + " + ".join(systems),
    key=lambda pipeline, systems: "rank fused",
)
READ_RUN = replace(
    RANK,
    parameters=lambda pipeline, run: {"run": True},
    inputs=lambda pipeline, run: {"questions": benchmark_steps(pipeline)[1], "run": content_hash(run)},
    build=_build_ranking_of_run,
    label=lambda pipeline, run: f"read run {run}",
)


def ranking_step(pipeline: Planner, system: str | tuple[str, ...]) -> Step:
    """Returns the step that ranks with a system, fuses several, or reads a run file."""
    if isinstance(system, tuple):
        return pipeline.step(FUSE_RANKINGS, system)
    if system in BM25_WEIGHTS:
        return pipeline.step(RANK, system)
    return pipeline.step(READ_RUN if storage.is_file(system) else RANK_BY_MODEL, system)


def file_stem(name: str) -> str:
    """Returns the name of a file without folder and ending; anything else as it is."""
    return name.rsplit("/", 1)[-1].rsplit(".", 1)[0] if storage.is_file(name) else name


def content_hash(path: str) -> str:
    """Returns the hash of a file's content.

    Raises:
        UserError: the file does not exist.
    """
    try:
        return digest(storage.read_bytes(path).decode("utf-8", "surrogateescape"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
