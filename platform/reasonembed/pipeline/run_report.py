"""What the jobs ``pipeline`` and ``evaluate`` show when they end: tables in the terminal, the report, a summary."""

import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from reasonembed import schemas, storage
from reasonembed.artifacts import Artifact
from reasonembed.corpora.tables import texts_by_key
from reasonembed.evaluation.failures import failed_questions
from reasonembed.evaluation.metrics import AVERAGE, Interval
from reasonembed.evaluation.report import MeasuredSystem, ReportPage, RunSummary, render_page, terminal_table, verdict
from reasonembed.pipeline.evaluation_stages import EVALUATE, configured_evaluation, with_benchmark
from reasonembed.pipeline.pipeline import Pipeline
from reasonembed.pipeline.ranking_stages import benchmark_of
from reasonembed.pipeline.remixer_stages import ANNOTATE
from reasonembed.pipeline.training_stages import INDEX, TRAIN, training_rows
from reasonembed.redapter.training_outputs import HISTORY, INTENSITY, INTENSITY_SCHEMA
from reasonembed.remixer.assemble import usable_rows

SYSTEMS = ("bm25", "base", "trained")
REPORT, SUMMARY = "report.html", "summary.json"
EXAMPLES = 6
EXAMPLE_CHARS = 200


def write_report(pipeline: Pipeline) -> tuple[str, dict[str, Any]]:
    """Runs all stages, writes report and summary under ``run.root``, and prints the table of the systems.

    Returns:
        URI of the report, and figures for the job's closing line.
    """
    pipeline.run(INDEX)
    evaluations = {name: pipeline.run(EVALUATE, name) for name in SYSTEMS}
    root = storage.absolute(pipeline.config.run.root)
    report, summary = storage.join(root, REPORT), storage.join(root, SUMMARY)
    page = _page(pipeline, evaluations)
    storage.write_bytes(report, render_page(page).encode())
    contents = {
        "systems": {name: artifact.figures["scores"] for name, artifact in evaluations.items()},
        "intervals": {name: artifact.figures["intervals"] for name, artifact in evaluations.items()},
        "seconds": {stage: artifact.seconds for stage, artifact in pipeline.artifacts.items()},
        "artifacts": {stage: artifact.uri for stage, artifact in pipeline.artifacts.items()},
    }
    storage.write_bytes(summary, json.dumps(contents, indent=1).encode())
    show(page, report)
    averages = {name: artifact.figures["scores"][AVERAGE]["ndcg@10"] for name, artifact in evaluations.items()}
    return report, {"ndcg@10": averages, "summary": summary}


def evaluate_and_show(pipeline: Pipeline) -> Artifact:
    """Runs the configured evaluation and prints its table, and the difference from a baseline."""
    artifact = pipeline.build(configured_evaluation(pipeline))
    figures = artifact.figures
    system = MeasuredSystem(figures["system"], figures["scores"], _per_question(artifact))
    page = ReportPage("", artifact.record["config"]["benchmark"], [system], pipeline.config)
    show(page, artifact.path("report.html"))
    if difference := figures.get("difference"):
        average = Interval(**difference["by_task"][AVERAGE])
        _console().print(verdict(figures["system"], difference["baseline"], average), soft_wrap=True)
    return artifact


def show(page: ReportPage, uri: str) -> None:
    """Prints the table, the verdict and the address of a report."""
    console = _console()
    console.print(terminal_table(page))
    if page.verdict:
        console.print(page.verdict, soft_wrap=True)
    console.print(f"report: {uri}", soft_wrap=True)


def _console() -> Console:
    return Console(stderr=True, highlight=False)


def _page(pipeline: Pipeline, evaluations: Mapping[str, Artifact]) -> ReportPage:
    benchmark = benchmark_of(pipeline.config)
    trained = evaluations["trained"]
    corpus, questions, ranking = (trained.input(name) for name in ("corpus", "questions", "ranking"))
    return ReportPage(
        title=f"reasonembed on {benchmark}",
        benchmark=benchmark,
        systems=[
            MeasuredSystem(name, artifact.figures["scores"], _per_question(artifact))
            for name, artifact in evaluations.items()
        ],
        config=with_benchmark(pipeline.config),
        figures=trained.figures,
        failures=failed_questions(
            _per_question(trained),
            questions.table(schemas.QUESTIONS),
            ranking.table(schemas.RANKING),
            texts_by_key(corpus.table(schemas.CORPUS)),
        ),
        run_summary=_run_summary(pipeline),
        provenance=trained.record,
    )


def _per_question(artifact: Artifact) -> Any:
    return storage.read_columns(artifact.path("per_query.parquet"))


def _run_summary(pipeline: Pipeline) -> RunSummary:
    trained, grades = pipeline.run(TRAIN), pipeline.run(ANNOTATE).figures["grades"]
    intensity = storage.read_table([trained.path(INTENSITY)], INTENSITY_SCHEMA)["intensity"].to_pylist()
    return RunSummary(
        stages=[_stage_row(stage, artifact) for stage, artifact in pipeline.artifacts.items()],
        history=json.loads(storage.read_bytes(trained.path(HISTORY))),
        intensity=intensity,
        grades={int(grade): count for grade, count in grades.items()},
        examples=_training_examples(pipeline.build(training_rows(pipeline))),
    )


def _stage_row(stage: str, artifact: Artifact) -> dict[str, Any]:
    rejects = artifact.figures.get("rejects", {})
    return {
        "stage": stage,
        "rows": artifact.figures.get("rows"),
        "rejected": sum(rejects.values()),
        "reasons": "; ".join(f"{count} {reason}" for reason, count in rejects.items()),
        "seconds": artifact.seconds,
    }


def _training_examples(training: Artifact) -> list[dict[str, Any]]:
    """Returns some training rows, evenly spaced, each with its best positive and its worst negative."""
    rows = usable_rows(training.table(schemas.TRAINING))
    distance = max(1, rows.num_rows // EXAMPLES)
    return [
        {
            "query": row["query"],
            "reasoning_query": row["reasoning_query"],
            "positive": row["pos"][0][:EXAMPLE_CHARS],
            "positive_score": row["pos_score"][0],
            "negative": row["neg"][-1][:EXAMPLE_CHARS],
            "negative_score": row["neg_score"][-1],
        }
        for row in rows.take(list(range(0, rows.num_rows, distance))[:EXAMPLES]).to_pylist()
    ]
