import json
import re

import numpy as np
import pyarrow as pa
import pytest

from reasonembed import schemas, storage
from reasonembed.config import Config
from reasonembed.corpora import bright
from reasonembed.corpora.tables import question_row
from reasonembed.evaluation.evaluate import Baseline, Benchmark, evaluate_ranking
from reasonembed.evaluation.failures import failed_questions
from reasonembed.evaluation.leaks import TrainingTexts, find_leaks
from reasonembed.evaluation.metrics import (
    MEASURES,
    RANKED,
    Interval,
    differences,
    group_means,
    intervals,
    means,
    per_question,
)
from reasonembed.evaluation.published import published_on
from reasonembed.evaluation.qrels import with_equal_texts
from reasonembed.evaluation.ranking import fuse_rankings, rank_questions
from reasonembed.evaluation.report import Page, RunSummary, System, render, verdict
from reasonembed.retrieval.collection import Collection


def questions(*rows):
    return pa.Table.from_pylist(
        [question_row(t, q, "?", "", gold, ex) for t, q, gold, ex in rows], schema=schemas.QUESTIONS
    )


def rank(table, scores, depth=1000):
    size = len(scores)
    collection = Collection([f"d {i}" for i in range(size)], ["x"] * size, np.zeros((size, 0)))
    score = lambda c, qs: np.tile(np.array(scores, np.float32), (len(qs), 1))  # noqa: E731
    return rank_questions(table, iter([("t", collection)]), score, lambda row: row["query"], depth)


def ranking(*rows):
    """Of (task, query, doc, score), in order."""
    ranks = [sum(1 for other in rows[: n + 1] if other[:2] == row[:2]) for n, row in enumerate(rows)]
    return pa.table(
        [*([row[n] for row in rows] for n in range(3)), ranks, [row[3] for row in rows]], schema=schemas.RANKING
    )


def corpus(*texts):
    return pa.table(
        [["t"] * len(texts), [f"d {i}" for i in range(len(texts))], [""] * len(texts), texts], schema=schemas.CORPUS
    )


def test_measures_of_a_ranking_worked_by_hand():
    table = questions(("t", "q", {"d 1": 1, "d 9": 1}, []))
    [row] = per_question(table, rank(table, [9, 8, 7, 0])).to_pylist()
    ideal = 1 + 1 / np.log2(3)
    assert row["ndcg@10"] == pytest.approx((1 / np.log2(3)) / ideal)
    assert row["recall@10"] == row["recall@1000"] == 0.5
    assert row["mrr"] == 0.5


def test_forgetting_the_excluded_ids_would_change_the_score():
    with_ids = questions(("t", "q", {"d 2": 1}, ["d 0", "d 1", "not in the corpus"]))
    without = questions(("t", "q", {"d 2": 1}, []))
    assert per_question(with_ids, rank(with_ids, [9, 8, 7]))["ndcg@10"].to_pylist() == [1.0]
    assert per_question(without, rank(without, [9, 8, 7]))["ndcg@10"].to_pylist() == [0.5]


def test_excluded_ids_leave_before_the_cut_however_many_they_are():
    size = 12_000
    many = [f"d {i}" for i in range(11_048)]
    table = questions(("t", "q", {"d 11050": 1}, many))
    found = rank(table, np.arange(size, 0, -1), depth=10)
    assert found["doc_id"].to_pylist() == [f"d {i}" for i in range(11_048, 11_058)]
    assert per_question(table, found)["mrr"].to_pylist() == [pytest.approx(1 / 3)]


def test_a_question_without_a_ranking_counts_as_zero_and_tasks_count_alike():
    table = questions(("t", "q1", {"d 0": 1}, []), ("t", "q2", {"d 0": 1}, []), ("u", "q1", {"d 0": 1}, []))
    measured_table = per_question(table, rank(table, [1, 0]))
    scores = means(measured_table)
    assert scores["t"]["ndcg@10"] == 1.0
    assert scores["u"]["ndcg@10"] == 0.0
    assert scores["average"]["ndcg@10"] == 0.5
    assert measured_table[RANKED].to_pylist() == [True, True, False]


def test_averages_of_groups_that_were_measured_whole():
    scores = {task: {name: float(n) for name in MEASURES} for n, task in enumerate(bright.INSTRUCTIONS)}
    groups = group_means(scores, bright.GROUPS)
    assert groups["coding"]["ndcg@10"] == np.mean([scores["leetcode"]["ndcg@10"], scores["pony"]["ndcg@10"]])
    assert {name: len(tasks) for name, tasks in bright.GROUPS.items()} == {
        "StackExchange": 7,
        "coding": 2,
        "theorem": 3,
    }
    assert set(group_means({"pony": scores["pony"]}, bright.GROUPS)) == set()


def test_a_copy_of_a_gold_document_counts_in_the_second_judgements_only():
    table = questions(("t", "q", {"d 0": 2}, []), ("t", "r", {"d 0": 1}, ["d 2"]))
    documents = corpus("same", "other", "same")
    corrected, added = with_equal_texts(table, documents)
    assert added == 1
    assert [row["gold_ids"] for row in corrected.to_pylist()] == [["d 0", "d 2"], ["d 0"]]
    assert corrected["gold_grades"].to_pylist() == [[2, 2], [1]]
    found = ranking(("t", "q", "d 2", 1.0))
    assert per_question(table, found)["mrr"].to_pylist() == [0, 0]
    assert per_question(corrected, found)["mrr"].to_pylist() == [1, 0]


def measured(values, task="t"):
    n = len(values)
    columns = dict.fromkeys(MEASURES, values)
    return pa.table({"task": [task] * n, "query_id": [str(i) for i in range(n)], **columns, RANKED: [True] * n})


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
    found = differences(measured(better), measured(base), 500, 1000, 0)["average"]
    assert found.low == pytest.approx(0.05, abs=1e-6)
    assert found.high == pytest.approx(0.05, abs=1e-6)
    assert found.p == pytest.approx(1 / 1001, abs=1e-6)
    with pytest.raises(ValueError, match="same questions"):
        differences(measured(better[:50]), measured(base), 500, 100, 0)


def test_randomisation_test_equals_the_count_of_all_sign_changes():
    gains = np.array([0.3, -0.1, 0.2, 0.25, 0.05, -0.02, 0.4, 0.1])
    signs = (np.arange(256)[:, None] >> np.arange(8) & 1) * 2 - 1
    exact = np.mean(np.abs(signs @ gains) >= abs(gains.sum()) - 1e-9)
    found = differences(measured(gains + 0.5), measured(np.full(8, 0.5)), 100, 40_000, 0)["average"]
    assert found.p == pytest.approx(exact, abs=0.006)
    assert differences(measured(gains), measured(gains), 100, 100, 0)["average"].p == 1


@pytest.mark.parametrize(
    ("interval", "says"),
    [
        (Interval(0.1, 0.05, 0.2, 0.001), "new is better than old"),
        (Interval(-0.1, -0.2, -0.05), "new is worse than old"),
        (Interval(0.1, -0.1, 0.2, 0.2), "includes zero"),
    ],
)
def test_the_verdict_says_no_more_than_the_interval(interval, says):
    assert says in verdict("new", "old", interval)


def test_fusion_by_scores_and_by_ranks():
    a = ranking(("t", "q", "x", 10.0), ("t", "q", "y", 5.0), ("t", "q", "z", 0.0))
    b = ranking(("t", "q", "y", 0.9), ("t", "q", "w", 0.1), ("t", "only b", "w", 0.5))
    summed = fuse_rankings([a, b], "minmax", [0.5, 0.5])
    assert summed.filter(pa.compute.equal(summed["query_id"], "q"))["doc_id"].to_pylist() == ["y", "x", "z", "w"]
    assert summed["score"].to_pylist() == pytest.approx([0.75, 0.5, 0, 0, 0.5])
    rrf = fuse_rankings([a, b], "rrf", [1, 1])
    assert rrf["doc_id"].to_pylist()[:2] == ["y", "x"]
    assert rrf["score"][0].as_py() == pytest.approx(1 / 62 + 1 / 61)
    assert fuse_rankings([a, b], "minmax", [1, 0])["doc_id"].to_pylist()[:2] == ["x", "y"]


def test_leaks_are_found_and_nothing_else():
    asked = pa.Table.from_pylist(
        [
            question_row("t", "q", "How do plants turn light into sugar in the leaves", "", {"d 0": 1}),
            question_row("t", "r", "Why is the sky blue at noon", "", {"d 1": 1}),
        ],
        schema=schemas.QUESTIONS,
    )
    documents = corpus("photosynthesis makes sugar out of light", "scattering of light in the air", "a third")
    clean = TrainingTexts(["What makes bread rise in the oven"], ["yeast eats sugar"], ["yeast"], ["bread"])
    found = find_leaks(clean, asked, documents)
    assert not found.found
    assert not found.target_corpus_aware
    seen = TrainingTexts(
        queries=["why is the sky blue  at noon", "how do plants turn light into sugar in their leaves"],
        sources=["Photosynthesis makes sugar out of light", "something else"],
        positives=["scattering of light in the air"],
        corpus=["a third", "a fourth"],
    )
    found = find_leaks(seen, asked, documents)
    assert (found.questions_equal, found.questions_near) == (1, 2)
    assert (found.gold_as_source_equal, found.gold_as_source_near) == (1, 1)
    assert found.gold_as_positive == 1
    assert found.corpus_share == pytest.approx(1 / 3, abs=1e-4)
    assert found.target_corpus_aware
    assert {example["what"] for example in found.examples} == {"question", "gold document as source"}


def test_published_figures_stand_beside_the_same_test_only():
    found = published_on("bright:xlangai/BRIGHT", ["pony"], "original")
    assert [s["tasks"]["pony"] for s in found.systems if s["name"] == "BM25"] == [7.9]
    for system in found.systems:
        assert np.mean(list(system["tasks"].values())) == pytest.approx(system["average"], abs=0.06)
    assert published_on("bright:x", ["pony"], "gpt4_reason") is None
    assert published_on("bright:x", ["another"], "original") is None
    assert published_on("bright-long:x", ["pony"], "original") is None
    medical = published_on("r2med:R2MED", ["Biology"], "original")
    for system in medical.systems:
        assert np.mean(list(system["tasks"].values())) == pytest.approx(system["average"], abs=0.06)


def test_worst_questions_show_what_was_found_and_what_was_wanted():
    table = questions(("t", "good", {"d 0": 1}, []), ("t", "bad", {"d 3": 1}, []), ("t", "worse", {"gone": 1}, []))
    found = rank(table, [9, 8, 7, 6])
    failures = failed_questions(per_question(table, found), table, found, {("t", "d 3"): "the text " * 100})
    assert [failure.query_id for failure in failures] == ["worse", "bad", "good"]
    [wanted] = failures[1].wanted
    assert (wanted.doc_id, wanted.rank, wanted.relevant) == ("d 3", 4, True)
    assert wanted.text.endswith(" …")
    assert failures[0].wanted[0].rank is None


def test_what_an_evaluation_leaves(tmp_path):
    table = questions(("pony", "q", {"d 0": 1}, []), ("pony", "r", {"d 1": 1}, []))
    documents = corpus("one", "two", "one").set_column(0, "task", pa.array(["pony"] * 3))
    found = ranking(("pony", "q", "d 2", 2.0), ("pony", "q", "d 0", 1.0))
    base = Baseline("before", ranking(("pony", "q", "d 1", 1.0), ("pony", "r", "d 0", 1.0)))
    result = evaluate_ranking(
        "mine", found, Benchmark("bright:somewhere", table, documents), Config(), str(tmp_path), base
    )
    assert result["scores"]["average"]["mrr"] == 0.25
    assert result["equal_texts"]["added_judgements"] == 1
    assert result["equal_texts"]["scores"]["average"]["mrr"] == 0.5
    assert result["missing"]["questions"] == 1
    assert result["missing"]["scores_without_them"]["average"]["mrr"] == 0.5
    assert result["difference"]["baseline"] == "before"
    assert json.loads((tmp_path / "metrics.json").read_text()) == result
    rows = storage.read_columns(str(tmp_path / "per_query.parquet")).to_pylist()
    assert [(row["query"], row["mrr"], row["mrr_equal_texts"]) for row in rows] == [("?", 0.5, 1.0), ("?", 0.0, 0.0)]
    assert (tmp_path / "run.trec").read_text().splitlines()[0].split("\t") == ["pony/q", "Q0", "d 2", "1", "2", "mine"]
    page = (tmp_path / "report.html").read_text()
    for text in ("mine − before", "corrected judgements", "1 questions have no ranking", "8B published", "not found"):
        assert text in page


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
    journey = RunSummary(
        [{"stage": "mine", "rows": 5, "rejected": 1, "why": "1 bad", "seconds": 1.5}],
        history,
        [1.0, 2.0],
        {3: 4},
        [example],
    )
    systems = [System("base", scores, table), System("trained", scores, table)]
    page = Page("A title", "pydocs", systems, Config(), journey=journey)
    text = render(page)
    assert text.count("<svg") == 5
    assert text.count("<script") == 1, "a text of the data must not become a script"
    assert not re.search(r"(src|href)=[\"'](?!#|data:,)", text), "something would be loaded from elsewhere"
    for part in ("A title", "mine", "1 bad", "trained − base", "includes zero"):
        assert part in text
    assert page.difference["average"].value == 0
