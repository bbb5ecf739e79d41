"""Measures per question (trec_eval's, through ir-measures), their means, and the significance of differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ir_measures
import numpy as np
import pyarrow as pa
from ir_measures import RR, R, nDCG

MEASURES = {"ndcg@10": nDCG @ 10, "recall@10": R @ 10, "recall@100": R @ 100, "recall@1000": R @ 1000, "mrr": RR}
MAIN = "ndcg@10"
"""The measure of intervals, differences and reports."""
AVERAGE = "average"
"""The key, among those of the tasks, of the mean over tasks."""
RANKED = "ranked"
"""The column that says whether the ranking has the question."""

Scores = dict[str, dict[str, float]]
"""Task to measure to value."""


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float
    p: float | None = None
    """For a difference: the p-value of the paired randomisation test."""


def per_question(questions: pa.Table, ranking: pa.Table) -> pa.Table:
    """Returns the measures of every question: columns task, query_id, every measure, and ``RANKED``.

    A question without a ranking scores zero, as with ``trec_eval -c``.

    Args:
        questions: ``schemas.QUESTIONS``.
        ranking: ``schemas.RANKING``. As with trec_eval, the scores decide the order; of equal scores the greater
            document id comes first.
    """
    rows = questions.to_pylist()
    qrels = [
        ir_measures.Qrel(f"{row['task']}\t{row['query_id']}", doc_id, grade)
        for row in rows
        for doc_id, grade in zip(row["gold_ids"], row["gold_grades"], strict=True)
    ]
    columns = (ranking[name].to_pylist() for name in ("task", "query_id", "doc_id", "score"))
    run = [
        ir_measures.ScoredDoc(f"{task}\t{query_id}", doc_id, score)
        for task, query_id, doc_id, score in zip(*columns, strict=True)
    ]
    values: dict[str, dict[str, float]] = {}
    names = {measure: name for name, measure in MEASURES.items()}
    for metric in ir_measures.iter_calc(list(MEASURES.values()), qrels, run):
        values.setdefault(metric.query_id, {})[names[metric.measure]] = metric.value
    ranked = {document.query_id for document in run}
    keys = [f"{row['task']}\t{row['query_id']}" for row in rows]
    table: dict[str, Any] = {name: [row[name] for row in rows] for name in ("task", "query_id")}
    for name in MEASURES:
        table[name] = pa.array([values.get(key, {}).get(name, 0.0) for key in keys], pa.float64())
    return pa.table({**table, RANKED: [key in ranked for key in keys]})


def means(table: pa.Table) -> Scores:
    """Returns the mean of every measure per task, and under ``AVERAGE`` the mean over the tasks.

    Args:
        table: of ``per_question``.
    """
    scores = {
        task: {name: float(np.mean(values[name])) for name in MEASURES} for task, values in _by_task(table).items()
    }
    return _rounded(scores | {AVERAGE: _macro_mean(scores, list(scores))})


def group_means(scores: Mapping[str, Mapping[str, float]], groups: Mapping[str, Sequence[str]]) -> Scores:
    """Returns the means over the tasks of every group whose tasks were all measured.

    Args:
        scores: of ``means``.
        groups: group name to its tasks.
    """
    return _rounded({name: _macro_mean(scores, tasks) for name, tasks in groups.items() if set(tasks) <= set(scores)})


def _macro_mean(scores: Mapping[str, Mapping[str, float]], tasks: Sequence[str]) -> dict[str, float]:
    return {name: float(np.mean([scores[task][name] for task in tasks])) for name in MEASURES}


def _rounded(scores: Scores) -> Scores:
    return {task: {name: round(value, 6) for name, value in row.items()} for task, row in scores.items()}


def intervals(table: pa.Table, resamples: int, seed: int) -> dict[str, Interval]:
    """Returns nDCG@10 per task and on average, with bootstrap intervals: questions are resampled within their task.

    The intervals are between percentiles of the resampled means (Efron and Tibshirani, 1993, chapter 13).

    Args:
        table: of ``per_question``.
        resamples: number of bootstrap samples.
        seed: of the resampling.
    """
    return _bootstrap({task: values[MAIN] for task, values in _by_task(table).items()}, resamples, seed)


def differences(
    table: pa.Table, baseline: pa.Table, resamples: int, permutations: int, seed: int
) -> dict[str, Interval]:
    """Returns the difference in nDCG@10 to a baseline per task and on average, paired by question.

    The p-value is that of the two-sided randomisation test (Smucker et al., CIKM 2007), which flips the signs of the
    questions' differences at random.

    Args:
        table: of ``per_question``.
        baseline: of the same questions.
        resamples: number of bootstrap samples.
        permutations: number of random assignments of signs.
        seed: of both.

    Raises:
        ValueError: the two tables are not of the same questions.
    """
    if not table.select(["task", "query_id"]).equals(baseline.select(["task", "query_id"])):
        raise ValueError("the two systems were not measured on the same questions")
    base = _by_task(baseline)
    gains = {task: values[MAIN] - base[task][MAIN] for task, values in _by_task(table).items()}
    without_p = _bootstrap(gains, resamples, seed)
    rng = np.random.default_rng(seed)
    permuted = {
        task: (rng.integers(0, 2, (permutations, len(values)), dtype=np.int8) * 2 - 1) @ values / len(values)
        for task, values in gains.items()
    }
    permuted[AVERAGE] = np.mean(list(permuted.values()), axis=0)
    with_p = {}
    for task, interval in without_p.items():
        # The tolerance makes sums equal that differ only by rounding. The observed assignment of signs counts as one.
        extreme = int(np.sum(np.abs(permuted[task]) >= abs(interval.value) - 1e-6))
        p = (1 + extreme) / (1 + permutations)
        with_p[task] = Interval(interval.value, interval.low, interval.high, round(p, 6))
    return with_p


def _bootstrap(values_by_task: Mapping[str, np.ndarray], resamples: int, seed: int) -> dict[str, Interval]:
    rng = np.random.default_rng(seed)
    samples = {
        task: values[rng.integers(0, len(values), (resamples, len(values)))].mean(axis=1)
        for task, values in values_by_task.items()
    }
    by_task = {task: _interval(float(values.mean()), samples[task]) for task, values in values_by_task.items()}
    average = float(np.mean([values.mean() for values in values_by_task.values()]))
    return by_task | {AVERAGE: _interval(average, np.mean(list(samples.values()), axis=0))}


def _interval(value: float, samples: np.ndarray) -> Interval:
    low, high = np.percentile(samples, [2.5, 97.5])
    return Interval(round(value, 6), round(float(low), 6), round(float(high), 6))


def _by_task(table: pa.Table) -> dict[str, dict[str, np.ndarray]]:
    """Returns task to measure to the values of the questions, tasks in alphabetical order."""
    tasks = np.array(table["task"].to_pylist())
    columns = {name: table[name].to_numpy() for name in MEASURES}
    return {task: {name: values[tasks == task] for name, values in columns.items()} for task in sorted(set(tasks))}
