"""One system on one benchmark: rank, measure, and write the figures, the run, the values per question, the report."""

import json
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from reasonembed import storage
from reasonembed.config import Config
from reasonembed.embedder.prompts import query_text
from reasonembed.evaluation.metrics import intervals, means, per_question
from reasonembed.evaluation.ranking import Scorer, rank_questions, trec_lines
from reasonembed.evaluation.report import System, render
from reasonembed.retrieval.collection import Collection


def evaluate_system(
    name: str,
    questions: pa.Table,
    collections: dict[str, Collection],
    score: Scorer,
    config: Config,
    uri: str,
) -> dict[str, Any]:
    """Measure a system; ``metrics.json``, ``run.trec``, ``per_query.parquet`` and ``report.html`` go below ``uri``.

    Returns:
        ``scores`` (per task and average, every measure) and ``intervals`` (nDCG@10).
    """
    instruct = config.encode.instruct and name != "bm25"
    run = rank_questions(
        questions, collections, score, lambda row: query_text(row["query"], row["instruction"], instruct)
    )
    table = per_question(questions, run)
    result = {
        "scores": means(table),
        "intervals": {
            task: asdict(i) for task, i in intervals(table, config.evaluate.bootstrap, config.run.seed).items()
        },
    }
    storage.write_bytes(storage.join(uri, "run.trec"), trec_lines(run, name).encode())
    storage.write_table(table, storage.join(uri, "per_query.parquet"))
    storage.write_bytes(storage.join(uri, "metrics.json"), json.dumps(result, indent=1).encode())
    page = render(f"{name} on {config.evaluate.benchmark}", [System(name, result["scores"], table)], config)
    storage.write_bytes(storage.join(uri, "report.html"), page.encode())
    return result
