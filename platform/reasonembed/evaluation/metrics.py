"""Measures per question (trec_eval's, through ir-measures), their means, and bootstrap intervals."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ir_measures
import numpy as np
import pyarrow as pa
from ir_measures import RR, R, nDCG

from reasonembed.evaluation.ranking import Ranking

MEASURES = {"ndcg@10": nDCG @ 10, "recall@10": R @ 10, "recall@100": R @ 100, "mrr": RR}
MAIN = "ndcg@10"
AVERAGE = "average"


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def per_question(questions: pa.Table, run: Ranking) -> pa.Table:
    """One row a question: task, query_id and every measure; a question without a ranking scores zero."""
    rows = questions.to_pylist()
    qrels = [
        ir_measures.Qrel(f"{row['task']}\t{row['query_id']}", doc_id, grade)
        for row in rows
        for doc_id, grade in zip(row["gold_ids"], row["gold_grades"], strict=True)
    ]
    ranked = [
        ir_measures.ScoredDoc(f"{task}\t{query_id}", doc_id, score)
        for (task, query_id), documents in run.items()
        for doc_id, score in documents
    ]
    values: dict[str, dict[str, float]] = {}
    names = {measure: name for name, measure in MEASURES.items()}
    for metric in ir_measures.iter_calc(list(MEASURES.values()), qrels, ranked):
        values.setdefault(metric.query_id, {})[names[metric.measure]] = metric.value
    columns: dict[str, Any] = {"task": [r["task"] for r in rows], "query_id": [r["query_id"] for r in rows]}
    for name in MEASURES:
        columns[name] = [values.get(f"{r['task']}\t{r['query_id']}", {}).get(name, 0.0) for r in rows]
    return pa.table(columns)


def means(table: pa.Table) -> dict[str, dict[str, float]]:
    """Mean of every measure per task, and under ``average`` the macro mean of the tasks."""
    by_task = _by_task(table)
    scores = {
        task: {name: float(np.mean(values[name])) for name in MEASURES} for task, values in sorted(by_task.items())
    }
    scores[AVERAGE] = {name: float(np.mean([scores[task][name] for task in by_task])) for name in MEASURES}
    return {task: {name: round(value, 6) for name, value in row.items()} for task, row in scores.items()}


def intervals(table: pa.Table, resamples: int, seed: int, baseline: pa.Table | None = None) -> dict[str, Interval]:
    """nDCG@10 per task and on average with percentile bootstrap intervals: questions are resampled within their task.

    Args:
        table: of ``per_question``.
        resamples: number of bootstrap samples.
        seed: of the resampling.
        baseline: measure the difference to this system instead, question by question (paired).
    """
    if baseline is not None and not table.select(["task", "query_id"]).equals(baseline.select(["task", "query_id"])):
        raise ValueError("the two systems were not measured on the same questions")
    rng = np.random.default_rng(seed)
    samples: dict[str, np.ndarray] = {}
    found: dict[str, Interval] = {}
    base = _by_task(baseline) if baseline is not None else {}
    for task, columns in sorted(_by_task(table).items()):
        values = columns[MAIN] - (base[task][MAIN] if base else 0)
        samples[task] = values[rng.integers(0, len(values), (resamples, len(values)))].mean(axis=1)
        found[task] = _interval(float(values.mean()), samples[task])
    average = np.mean(list(samples.values()), axis=0)
    found[AVERAGE] = _interval(float(np.mean([i.value for i in found.values()])), average)
    return found


def _interval(value: float, samples: np.ndarray) -> Interval:
    low, high = np.percentile(samples, [2.5, 97.5])
    return Interval(round(value, 6), round(float(low), 6), round(float(high), 6))


def _by_task(table: pa.Table) -> Mapping[str, dict[str, np.ndarray]]:
    tasks = np.array(table["task"].to_pylist())
    columns = {name: table[name].to_numpy() for name in MEASURES}
    return {task: {name: values[tasks == task] for name, values in columns.items()} for task in sorted(set(tasks))}
