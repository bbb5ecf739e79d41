import numpy as np
import pytest
from evaluation_tables import measures, questions, rank

from reasonembed.corpora import bright
from reasonembed.evaluation.metrics import (
    MEASURES,
    RANKED,
    differences,
    group_means,
    intervals,
    means,
    per_question,
)


def test_measures_of_a_ranking_worked_by_hand():
    table = questions(("t", "q", {"d 1": 1, "d 9": 1}, []))
    [row] = per_question(table, rank(table, [9, 8, 7, 0])).to_pylist()
    ideal = 1 + 1 / np.log2(3)
    assert row["ndcg@10"] == pytest.approx((1 / np.log2(3)) / ideal)
    assert row["recall@10"] == row["recall@1000"] == 0.5
    assert row["mrr"] == 0.5


def test_a_question_without_a_ranking_counts_as_zero_and_tasks_count_equally():
    table = questions(("t", "q1", {"d 0": 1}, []), ("t", "q2", {"d 0": 1}, []), ("u", "q1", {"d 0": 1}, []))
    measured = per_question(table, rank(table, [1, 0]))
    scores = means(measured)
    assert scores["t"]["ndcg@10"] == 1.0
    assert scores["u"]["ndcg@10"] == 0.0
    assert scores["average"]["ndcg@10"] == 0.5
    assert measured[RANKED].to_pylist() == [True, True, False]


def test_groups_have_an_average_if_all_their_tasks_were_measured():
    scores = {task: {name: float(n) for name in MEASURES} for n, task in enumerate(bright.INSTRUCTIONS)}
    groups = group_means(scores, bright.GROUPS)
    assert groups["coding"]["ndcg@10"] == np.mean([scores["leetcode"]["ndcg@10"], scores["pony"]["ndcg@10"]])
    assert {name: len(tasks) for name, tasks in bright.GROUPS.items()} == {
        "StackExchange": 7,
        "coding": 2,
        "theorem": 3,
    }
    assert set(group_means({"pony": scores["pony"]}, bright.GROUPS)) == set()


def test_bootstrap_interval_of_a_mean():
    rng = np.random.default_rng(0)
    values = rng.random(400)
    average = intervals(measures(values), 2000, seed=1)["average"]
    half = 1.96 * values.std() / 20
    assert average.value == pytest.approx(values.mean(), abs=1e-6)
    assert (average.low, average.high) == (
        pytest.approx(values.mean() - half, abs=0.004),
        pytest.approx(values.mean() + half, abs=0.004),
    )


def test_a_paired_difference_is_more_certain_than_the_two_systems():
    rng = np.random.default_rng(0)
    base = rng.random(100)
    better = np.clip(base + 0.05, 0, 2)
    average = differences(measures(better), measures(base), 500, 1000, 0)["average"]
    assert average.low == pytest.approx(0.05, abs=1e-6)
    assert average.high == pytest.approx(0.05, abs=1e-6)
    assert average.p == pytest.approx(1 / 1001, abs=1e-6)
    with pytest.raises(ValueError, match="same questions"):
        differences(measures(better[:50]), measures(base), 500, 100, 0)


def test_the_randomisation_test_equals_the_count_over_all_assignments_of_signs():
    gains = np.array([0.3, -0.1, 0.2, 0.25, 0.05, -0.02, 0.4, 0.1])
    signs = (np.arange(256)[:, None] >> np.arange(8) & 1) * 2 - 1
    exact = np.mean(np.abs(signs @ gains) >= abs(gains.sum()) - 1e-9)
    average = differences(measures(gains + 0.5), measures(np.full(8, 0.5)), 100, 40_000, 0)["average"]
    assert average.p == pytest.approx(exact, abs=0.006)
    assert differences(measures(gains), measures(gains), 100, 100, 0)["average"].p == 1
