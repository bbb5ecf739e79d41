import re

import numpy as np
import pyarrow as pa
import pytest

from reasonembed import schemas
from reasonembed.config import Config
from reasonembed.corpora.tables import question_row
from reasonembed.evaluation.metrics import Interval, intervals, means, per_question
from reasonembed.evaluation.ranking import rank_questions, trec_lines
from reasonembed.evaluation.report import Journey, System, gain, render, verdict
from reasonembed.retrieval.collection import Collection


def questions(*rows):
    return pa.Table.from_pylist(
        [question_row(t, q, "?", "", gold, ex) for t, q, gold, ex in rows], schema=schemas.QUESTIONS
    )


def rank(table, scores):
    collection = {
        "t": Collection([f"d {i}" for i in range(len(scores))], ["x"] * len(scores), np.zeros((len(scores), 0)))
    }
    return rank_questions(
        table, collection, lambda c, qs: np.tile(np.array(scores, float), (len(qs), 1)), lambda row: row["query"]
    )


def test_measures_of_a_ranking_worked_by_hand():
    table = questions(("t", "q", {"d 1": 1, "d 9": 1}, []))
    [row] = per_question(table, rank(table, [9, 8, 7, 0])).to_pylist()
    ideal = 1 + 1 / np.log2(3)
    assert row["ndcg@10"] == pytest.approx((1 / np.log2(3)) / ideal)
    assert row["recall@10"] == 0.5
    assert row["mrr"] == 0.5


def test_forgetting_the_excluded_ids_would_change_the_score():
    with_ids = questions(("t", "q", {"d 2": 1}, ["d 0", "d 1", "not in the corpus"]))
    without = questions(("t", "q", {"d 2": 1}, []))
    assert per_question(with_ids, rank(with_ids, [9, 8, 7]))["ndcg@10"].to_pylist() == [1.0]
    assert per_question(without, rank(without, [9, 8, 7]))["ndcg@10"].to_pylist() == [0.5]


def test_a_question_without_a_ranking_counts_as_zero_and_tasks_count_alike():
    table = questions(("t", "q1", {"d 0": 1}, []), ("t", "q2", {"d 0": 1}, []), ("u", "q1", {"d 0": 1}, []))
    scores = means(per_question(table, rank(table, [1, 0])))
    assert scores["t"]["ndcg@10"] == 1.0
    assert scores["u"]["ndcg@10"] == 0.0
    assert scores["average"]["ndcg@10"] == 0.5


def measured(values):
    n = len(values)
    columns = dict.fromkeys(("ndcg@10", "recall@10", "recall@100", "mrr"), values)
    return pa.table({"task": ["t"] * n, "query_id": [str(i) for i in range(n)], **columns})


def test_bootstrap_interval_of_a_mean():
    rng = np.random.default_rng(0)
    values = rng.random(400)
    found = intervals(measured(values), 2000, seed=1)["average"]
    half = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean(), abs=1e-6)
    assert (found.low, found.high) == (
        pytest.approx(values.mean() - half, abs=0.004),
        pytest.approx(values.mean() + half, abs=0.004),
    )


def test_paired_difference_is_surer_than_the_two_systems():
    rng = np.random.default_rng(0)
    base = rng.random(100)
    better = np.clip(base + 0.05, 0, 2)
    found = intervals(measured(better), 500, 0, baseline=measured(base))["average"]
    assert found.low == pytest.approx(0.05, abs=1e-6)
    assert found.high == pytest.approx(0.05, abs=1e-6)
    with pytest.raises(ValueError, match="same questions"):
        intervals(measured(better[:50]), 500, 0, baseline=measured(base))


@pytest.mark.parametrize(
    ("interval", "says"),
    [
        (Interval(0.1, 0.05, 0.2), "is better than"),
        (Interval(-0.1, -0.2, -0.05), "is worse than"),
        (Interval(0.1, -0.1, 0.2), "includes zero"),
    ],
)
def test_the_verdict_says_no_more_than_the_interval(interval, says):
    assert says in verdict(interval)


def test_run_lines_keep_ids_with_spaces_apart():
    table = questions(("t", "q", {"d 0": 1}, []))
    first = trec_lines(rank(table, [2, 1]), "me").splitlines()[0].split("\t")
    assert first == ["t/q", "Q0", "d 0", "1", "2.000000", "me"]


def test_report_is_one_file_with_every_part_and_escapes_what_it_shows():
    table = measured([0.5, 1.0])
    scores = means(table)
    history = [{"loss": 1.0, "infonce": 1.0, "infonce_rewrite": 0.5}] * 3
    example = {
        "query": "<script>x</script>",
        "reasoning_query": "r",
        "positive": "p",
        "positive_score": 0.9,
        "negative": "n",
        "negative_score": 0.1,
    }
    journey = Journey(
        [{"stage": "mine", "rows": 5, "rejected": 1, "why": "1 bad", "seconds": 1.5}],
        history,
        [1.0, 2.0],
        {3: 4},
        [example],
    )
    systems = [System("base", scores, table), System("trained", scores, table)]
    page = render("A title", systems, Config(), journey)
    assert page.count("<svg") == 3
    assert "<script" not in page
    assert not re.search(r"(src|href)=[\"'](?!#)", page), "something would be loaded from elsewhere"
    for text in ("A title", "mine", "1 bad", "trained − base", "includes zero"):
        assert text in page
    assert gain(systems, Config())["average"].value == 0
