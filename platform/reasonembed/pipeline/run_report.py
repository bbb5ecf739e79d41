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
from reasonembed.evaluation.report import Page, RunSummary, System, render, terminal_table, verdict
from reasonembed.pipeline.pipeline import Pipeline
from reasonembed.remixer.assemble import usable_rows

SYSTEMS = ("bm25", "base", "trained")
REPORT, SUMMARY = "report.html", "summary.json"
EXAMPLES = 6


def write_report(pipeline: Pipeline) -> tuple[str, dict[str, Any]]:
    """Run the whole path, write the report under ``run.root``, and print its table.

    Returns:
        URI of the report, and figures for the job's closing line.
    """
    pipeline.index()
    measured = {name: pipeline.evaluate(name) for name in SYSTEMS}
    root = storage.absolute(pipeline.config.run.root)
    page = _page(pipeline, measured)
    storage.write_bytes(storage.join(root, REPORT), render(page).encode())
    summary = {
        "systems": {name: artifact.figures["scores"] for name, artifact in measured.items()},
        "intervals": {name: artifact.figures["intervals"] for name, artifact in measured.items()},
        "seconds": {stage: artifact.seconds for stage, artifact in pipeline.artifacts.items()},
        "artifacts": {stage: artifact.uri for stage, artifact in pipeline.artifacts.items()},
    }
    storage.write_bytes(storage.join(root, SUMMARY), json.dumps(summary, indent=1).encode())

    uri = storage.join(root, REPORT)
    show(page, uri)
    averages = {name: artifact.figures["scores"][AVERAGE]["ndcg@10"] for name, artifact in measured.items()}
    return uri, {"ndcg@10": averages, "summary": storage.join(root, SUMMARY)}


def evaluate_and_show(pipeline: Pipeline) -> Artifact:
    """The job ``evaluate``."""
    artifact = pipeline.evaluate()
    figures = artifact.figures
    system = System(figures["system"], figures["scores"], _per_question(artifact))
    page = Page("", artifact.record["config"]["benchmark"], [system], pipeline.config)
    show(page, artifact.path("report.html"))
    if difference := figures.get("difference"):
        average = Interval(**difference["by_task"][AVERAGE])
        _console().print(verdict(figures["system"], difference["baseline"], average), soft_wrap=True)
    return artifact


def show(page: Page, uri: str) -> None:
    """The table, the verdict and the place of a report, in the terminal."""
    console = _console()
    console.print(terminal_table(page))
    if page.verdict:
        console.print(page.verdict, soft_wrap=True)
    console.print(f"report: {uri}", soft_wrap=True)


def _console() -> Console:
    return Console(stderr=True, highlight=False)


def _page(pipeline: Pipeline, measured: Mapping[str, Artifact]) -> Page:
    benchmark = pipeline.config.evaluate.benchmark or pipeline.config.corpus.source
    evaluate = pipeline.config.evaluate.model_copy(update={"benchmark": benchmark})
    trained = measured["trained"]
    corpus, questions, ranking = (trained.input(name) for name in ("corpus", "questions", "ranking"))
    return Page(
        title=f"reasonembed on {benchmark}",
        benchmark=benchmark,
        systems=[System(name, a.figures["scores"], _per_question(a)) for name, a in measured.items()],
        config=pipeline.config.model_copy(update={"evaluate": evaluate}),
        result=trained.figures,
        worst=failed_questions(
            _per_question(trained),
            questions.table(schemas.QUESTIONS),
            ranking.table(schemas.RANKING),
            texts_by_key(corpus.table(schemas.CORPUS)),
        ),
        journey=_journey(pipeline),
        origin=trained.record,
    )


def _per_question(artifact: Artifact) -> Any:
    return storage.read_columns(artifact.path("per_query.parquet"))


def _journey(pipeline: Pipeline) -> RunSummary:
    from reasonembed.distributed.train.trainer import HISTORY, INTENSITY, INTENSITY_SCHEMA

    stages = []
    for stage, artifact in pipeline.artifacts.items():
        rejects = artifact.figures.get("rejects", {})
        stages.append(
            {
                "stage": stage,
                "rows": artifact.figures.get("rows"),
                "rejected": sum(rejects.values()),
                "why": "; ".join(f"{count} {reason}" for reason, count in rejects.items()),
                "seconds": artifact.seconds,
            }
        )
    trained = pipeline.train()
    training = usable_rows(pipeline.assemble().table(schemas.TRAINING))
    step = max(1, training.num_rows // EXAMPLES)
    examples = [
        {
            "query": row["query"],
            "reasoning_query": row["reasoning_query"],
            "positive": row["pos"][0][:200],
            "positive_score": row["pos_score"][0],
            "negative": row["neg"][-1][:200],
            "negative_score": row["neg_score"][-1],
        }
        for row in training.take(list(range(0, training.num_rows, step))[:EXAMPLES]).to_pylist()
    ]
    intensity = storage.read_table([trained.path(INTENSITY)], INTENSITY_SCHEMA)["intensity"].to_pylist()
    return RunSummary(
        stages=stages,
        history=json.loads(storage.read_bytes(trained.path(HISTORY))),
        intensity=intensity,
        grades={int(grade): n for grade, n in pipeline.annotate().figures["grades"].items()},
        examples=examples,
    )
