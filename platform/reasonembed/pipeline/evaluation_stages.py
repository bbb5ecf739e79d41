"""The stage ``evaluate``: the measures of one system on a benchmark, or of a run file by a file of judgements."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from reasonembed import storage
from reasonembed.artifacts import Artifact
from reasonembed.config import Config
from reasonembed.errors import UserError
from reasonembed.pipeline.lineage import find_training
from reasonembed.pipeline.ranking_stages import (
    BM25_WEIGHTS,
    benchmark_of,
    benchmark_steps,
    content_hash,
    file_stem,
    ranking_step,
)
from reasonembed.pipeline.stage import Build, Figures, Planner, Source, Stage, Step
from reasonembed.pipeline.training_stages import model_of
from reasonembed.provenance import git_commit, versions

# ---- evaluate: measures of one system on the benchmark


def default_system(config: Config) -> tuple[Any, ...]:
    """Returns the system that the configuration names, as the argument of the stage ``evaluate``."""
    settings = config.evaluate
    if settings.run:
        if not storage.is_file(settings.run):
            raise UserError(f"evaluate.run {settings.run} does not exist")
        return (settings.run,)
    return (settings.systems[0] if len(settings.systems) == 1 else settings.systems,)


def system_name(system: str | tuple[str, ...]) -> str:
    """Returns the name of a system in reports."""
    return " + ".join(system) if isinstance(system, tuple) else file_stem(system)


def _evaluate_inputs(pipeline: Planner, system: str | tuple[str, ...]) -> Mapping[str, Source]:
    corpus, questions = benchmark_steps(pipeline)
    inputs: dict[str, Source] = {"corpus": corpus, "questions": questions, "ranking": ranking_step(pipeline, system)}
    baseline = pipeline.config.evaluate.baseline
    if baseline and system != baseline:
        inputs["baseline"] = ranking_step(pipeline, baseline)
    if (training := _training_behind(pipeline, system)) is not None:
        inputs["training"] = training
    return inputs


def _training_behind(pipeline: Planner, system: str | tuple[str, ...]) -> Step | Artifact | None:
    """Returns the training of the first of the systems that was trained here, whose data is compared for leaks."""
    names = system if isinstance(system, tuple) else (system,)
    for name in names:
        if name not in BM25_WEIGHTS and not storage.is_file(name):
            model = model_of(pipeline, name)
            training = find_training(model.location) if isinstance(model.source, str) else model.source
            if training is not None:
                return training
    return None


def _build_evaluation(build: Build) -> Figures:
    from reasonembed.pipeline.benchmark_tasks import evaluate_on_benchmark

    (system,) = build.step.arguments
    inputs, settings = build.inputs, build.config.evaluate
    baseline = (file_stem(settings.baseline or ""), inputs["baseline"]) if "baseline" in inputs else None
    arguments = (
        system_name(system),
        with_benchmark(build.config),
        inputs["corpus"],
        inputs["questions"],
        inputs["ranking"],
        baseline,
        inputs.get("training"),
        _provenance(),
        build.uri,
    )
    return dict(build.backend.run_task(evaluate_on_benchmark, *arguments))


EVALUATE = Stage(
    "evaluate",
    version=3,
    settings=("evaluate.bootstrap", "evaluate.permutations", "run.seed"),
    parameters=lambda pipeline, system: {
        "system": system_name(system),
        "benchmark": benchmark_of(pipeline.config),
        "queries": pipeline.config.evaluate.queries,
    },
    inputs=_evaluate_inputs,
    build=_build_evaluation,
    defaults=default_system,
    label=lambda pipeline, system: f"evaluate {system_name(system)}",
    key=lambda pipeline, system: f"evaluate {system_name(system)}",
)


# ---- evaluate a run file by a file of judgements: neither corpus nor questions are known


def _evaluate_files_inputs(pipeline: Planner, run: str, qrels: str) -> Mapping[str, Source]:
    inputs: dict[str, Source] = {"run": content_hash(run), "qrels": content_hash(qrels)}
    if baseline := pipeline.config.evaluate.baseline:
        inputs["baseline"] = content_hash(baseline)
    return inputs


def _build_evaluation_of_files(build: Build) -> Figures:
    from reasonembed.evaluation import trec
    from reasonembed.evaluation.evaluate import Baseline, Benchmark, evaluate_ranking

    run, qrels = build.step.arguments
    task, baseline_file = file_stem(qrels), build.config.evaluate.baseline
    questions = trec.questions_from_qrels(trec.read_qrels(qrels), task)
    ranking = trec.ranking_from_run(trec.read_run(run), questions, run)
    baseline = None
    if baseline_file:
        baseline_ranking = trec.ranking_from_run(trec.read_run(baseline_file), questions, baseline_file)
        baseline = Baseline(file_stem(baseline_file), baseline_ranking)
    benchmark = Benchmark(task, questions, None)
    result = evaluate_ranking(
        file_stem(run), ranking, benchmark, build.config, build.uri, baseline, provenance=_provenance()
    )
    return {"rows": questions.num_rows, **result}


EVALUATE_FILES = replace(
    EVALUATE,
    parameters=lambda pipeline, run, qrels: {
        "system": file_stem(run),
        "benchmark": file_stem(qrels),
        "queries": pipeline.config.evaluate.queries,
    },
    inputs=_evaluate_files_inputs,
    build=_build_evaluation_of_files,
    label=lambda pipeline, run, qrels: f"evaluate {file_stem(run)} by {file_stem(qrels)}",
    key=lambda pipeline, run, qrels: "evaluate",
)


def configured_evaluation(pipeline: Planner) -> Step:
    """Returns the evaluation that the section ``evaluate`` describes."""
    settings = pipeline.config.evaluate
    if settings.run and settings.qrels:
        return pipeline.step(EVALUATE_FILES, settings.run, settings.qrels)
    return pipeline.step(EVALUATE)


def with_benchmark(config: Config) -> Config:
    """Returns the configuration as reports show it, with the benchmark that was used."""
    evaluate = config.evaluate.model_copy(update={"benchmark": benchmark_of(config)})
    return config.model_copy(update={"evaluate": evaluate})


def _provenance() -> dict[str, Any]:
    finished = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    return {"finished": finished, "git_commit": git_commit(), "versions": versions()}
