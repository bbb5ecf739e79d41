"""Measures per question (trec_eval's, through ir-measures), their means, and how sure they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ir_measures
import numpy as np
import pyarrow as pa
from ir_measures import RR, R, nDCG

MEASURES = {"ndcg@10": nDCG @ 10, "recall@10": R @ 10, "recall@100": R @ 100, "recall@1000": R @ 1000, "mrr": RR}
MAIN = "ndcg@10"
AVERAGE = "average"
RANKED = "ranked"

Scores = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % bootstrap interval; of a difference, the p-value of the paired randomisation test too."""

    value: float
    low: float
    high: float
    p: float | None = None


def per_question(questions: pa.Table, ranking: pa.Table) -> pa.Table:
    """One row a question: task, query_id, every measure, and ``ranked``: whether the ranking has the question at all.

    A question without a ranking scores zero, as with ``trec_eval -c``.

    Args:
        questions: ``schemas.QUESTIONS``.
        ranking: ``schemas.RANKING``. As with trec_eval its scores decide the order; of equal ones the greater document
            id comes first.
    """
    rows = questions.to_pylist()
    qrels = [
        ir_measures.Qrel(f"{row['task']}\t{row['query_id']}", doc_id, grade)
        for row in rows
        for doc_id, grade in zip(row["gold_ids"], row["gold_grades"], strict=True)
    ]
    found = zip(*(ranking[name].to_pylist() for name in ("task", "query_id", "doc_id", "score")), strict=True)
    ranked = [ir_measures.ScoredDoc(f"{task}\t{query_id}", doc_id, score) for task, query_id, doc_id, score in found]
    values: dict[str, dict[str, float]] = {}
    names = {measure: name for name, measure in MEASURES.items()}
    for metric in ir_measures.iter_calc(list(MEASURES.values()), qrels, ranked):
        values.setdefault(metric.query_id, {})[names[metric.measure]] = metric.value
    present = {document.query_id for document in ranked}
    keys = [f"{row['task']}\t{row['query_id']}" for row in rows]
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in ("task", "query_id")}
    for name in MEASURES:
        columns[name] = pa.array([values.get(key, {}).get(name, 0.0) for key in keys], pa.float64())
    return pa.table({**columns, RANKED: [key in present for key in keys]})


def means(table: pa.Table) -> Scores:
    """Mean of every measure per task, and under ``average`` the macro mean of the tasks."""
    scores = {
        task: {name: float(np.mean(values[name])) for name in MEASURES} for task, values in _by_task(table).items()
    }
    return _rounded(scores | {AVERAGE: _macro(scores, list(scores))})


def group_means(scores: Mapping[str, Mapping[str, float]], groups: Mapping[str, Sequence[str]]) -> Scores:
    """Macro means of the groups of tasks all of whose tasks were measured."""
    return _rounded({name: _macro(scores, tasks) for name, tasks in groups.items() if set(tasks) <= set(scores)})


def _macro(scores: Mapping[str, Mapping[str, float]], tasks: Sequence[str]) -> dict[str, float]:
    return {name: float(np.mean([scores[task][name] for task in tasks])) for name in MEASURES}


def _rounded(scores: Scores) -> Scores:
    return {task: {name: round(value, 6) for name, value in row.items()} for task, row in scores.items()}


def intervals(table: pa.Table, resamples: int, seed: int) -> dict[str, Interval]:
    """nDCG@10 per task and on average, with percentile bootstrap intervals: questions are resampled within their task.

    Args:
        table: of ``per_question``.
        resamples: number of bootstrap samples.
        seed: of the resampling.
    """
    return _bootstrap({task: values[MAIN] for task, values in _by_task(table).items()}, resamples, seed)


def differences(
    table: pa.Table, baseline: pa.Table, resamples: int, permutations: int, seed: int
) -> dict[str, Interval]:
    """nDCG@10 less a baseline's, paired question by question: with bootstrap intervals and the two-sided p-value of the
    randomisation test (Smucker et al., CIKM 2007), which changes the signs of questions' differences at random.

    Args:
        table: of ``per_question``.
        baseline: of the same questions.
        resamples: number of bootstrap samples.
        permutations: number of random sign changes.
        seed: of both.

    Raises:
        ValueError: the two are not of the same questions.
    """
    if not table.select(["task", "query_id"]).equals(baseline.select(["task", "query_id"])):
        raise ValueError("the two systems were not measured on the same questions")
    base = _by_task(baseline)
    gains = {task: values[MAIN] - base[task][MAIN] for task, values in _by_task(table).items()}
    found = _bootstrap(gains, resamples, seed)
    rng = np.random.default_rng(seed)
    flipped = {
        task: (rng.integers(0, 2, (permutations, len(values)), dtype=np.int8) * 2 - 1) @ values / len(values)
        for task, values in gains.items()
    }
    flipped[AVERAGE] = np.mean(list(flipped.values()), axis=0)
    with_p = {}
    for task, interval in found.items():
        # The small slack keeps sums that are equal but for rounding equal; one is added for the signs as they are.
        extreme = int(np.sum(np.abs(flipped[task]) >= abs(interval.value) - 1e-6))
        p = (1 + extreme) / (1 + permutations)
        with_p[task] = Interval(interval.value, interval.low, interval.high, round(p, 6))
    return with_p


def _bootstrap(values: Mapping[str, np.ndarray], resamples: int, seed: int) -> dict[str, Interval]:
    rng = np.random.default_rng(seed)
    samples = {task: of[rng.integers(0, len(of), (resamples, len(of)))].mean(axis=1) for task, of in values.items()}
    found = {task: _interval(float(of.mean()), samples[task]) for task, of in values.items()}
    average = float(np.mean([of.mean() for of in values.values()]))
    return found | {AVERAGE: _interval(average, np.mean(list(samples.values()), axis=0))}


def _interval(value: float, samples: np.ndarray) -> Interval:
    low, high = np.percentile(samples, [2.5, 97.5])
    return Interval(round(value, 6), round(float(low), 6), round(float(high), 6))


def _by_task(table: pa.Table) -> dict[str, dict[str, np.ndarray]]:
    """By task, in alphabetical order, the values of every measure."""
    tasks = np.array(table["task"].to_pylist())
    columns = {name: table[name].to_numpy() for name in MEASURES}
    return {task: {name: values[tasks == task] for name, values in columns.items()} for task in sorted(set(tasks))}
