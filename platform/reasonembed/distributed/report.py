"""The end of the pipeline: all systems measured, the index built, the report and ``summary.json`` written."""

import json
from typing import Any

from rich.console import Console

from reasonembed import schemas, storage
from reasonembed.artifacts import Artifact
from reasonembed.distributed.pipeline import Pipeline
from reasonembed.evaluation.metrics import AVERAGE
from reasonembed.evaluation.report import Journey, System, gain, render, terminal_table, verdict
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
    benchmark = pipeline.config.evaluate.benchmark or pipeline.config.corpus.source
    evaluate = pipeline.config.evaluate.model_copy(update={"benchmark": benchmark})
    config = pipeline.config.model_copy(update={"evaluate": evaluate})

    systems = [System(name, artifact.figures["scores"], _per_question(artifact)) for name, artifact in measured.items()]
    page = render(f"reasonembed on {benchmark}", systems, config, _journey(pipeline))
    storage.write_bytes(storage.join(root, REPORT), page.encode())
    summary = {
        "systems": {name: artifact.figures["scores"] for name, artifact in measured.items()},
        "intervals": {name: artifact.figures["intervals"] for name, artifact in measured.items()},
        "seconds": {stage: artifact.seconds for stage, artifact in pipeline.artifacts.items()},
        "artifacts": {stage: artifact.uri for stage, artifact in pipeline.artifacts.items()},
    }
    storage.write_bytes(storage.join(root, SUMMARY), json.dumps(summary, indent=1).encode())

    console = Console(stderr=True, highlight=False)
    console.print(terminal_table(systems, config))
    difference = gain(systems, config)
    assert difference is not None
    console.print(verdict(difference[AVERAGE]), soft_wrap=True)
    uri = storage.join(root, REPORT)
    console.print(f"report: {uri}", soft_wrap=True)
    averages = {name: artifact.figures["scores"][AVERAGE]["ndcg@10"] for name, artifact in measured.items()}
    return uri, {"ndcg@10": averages, "summary": storage.join(root, SUMMARY)}


def _per_question(artifact: Artifact) -> Any:
    return storage.read_columns(artifact.path("per_query.parquet"))


def _journey(pipeline: Pipeline) -> Journey:
    from reasonembed.distributed.training import HISTORY, INTENSITY, INTENSITY_SCHEMA

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
    return Journey(
        stages=stages,
        history=json.loads(storage.read_bytes(trained.path(HISTORY))),
        intensity=intensity,
        grades={int(grade): n for grade, n in pipeline.annotate().figures["grades"].items()},
        examples=examples,
    )
