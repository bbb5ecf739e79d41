import numpy as np
import pyarrow.compute as pc
import pytest
from evaluation_tables import questions, rank, ranking

from reasonembed.evaluation.metrics import per_question
from reasonembed.evaluation.ranking import bm25_scorer, fuse_rankings, rank_questions
from reasonembed.retrieval.collection import Collection


def test_forgetting_the_excluded_ids_would_change_the_score():
    with_ids = questions(("t", "q", {"d 2": 1}, ["d 0", "d 1", "not in the corpus"]))
    without = questions(("t", "q", {"d 2": 1}, []))
    assert per_question(with_ids, rank(with_ids, [9, 8, 7]))["ndcg@10"].to_pylist() == [1.0]
    assert per_question(without, rank(without, [9, 8, 7]))["ndcg@10"].to_pylist() == [0.5]


def test_excluded_ids_are_removed_before_the_cut_off_however_many_they_are():
    size = 12_000
    excluded = [f"d {i}" for i in range(11_048)]
    table = questions(("t", "q", {"d 11050": 1}, excluded))
    ranked = rank(table, np.arange(size, 0, -1), depth=10)
    assert ranked["doc_id"].to_pylist() == [f"d {i}" for i in range(11_048, 11_058)]
    assert per_question(table, ranked)["mrr"].to_pylist() == [pytest.approx(1 / 3)]


def test_every_question_is_ranked_in_its_own_task(monkeypatch):
    monkeypatch.setattr("reasonembed.evaluation.ranking.QUERY_BATCH", 2)
    collections = {
        "t": Collection(["a", "b"], ["red fox", "blue hen"], np.zeros((2, 0))),
        "u": Collection(["a", "c"], ["grey goose", "red fox"], np.zeros((2, 0))),
    }
    table = questions(*((task, f"q{n}", {"a": 1}, []) for task in "tu" for n in range(5)))
    ranked = rank_questions(table, iter(collections.items()), bm25_scorer("count"), lambda row: "fox")
    first = ranked.filter(pc.equal(ranked["rank"], 1)).to_pylist()
    assert [(row["task"], row["query_id"], row["doc_id"]) for row in first] == [
        (task, f"q{n}", doc_id) for task, doc_id in (("t", "a"), ("u", "c")) for n in range(5)
    ]


def test_fusion_by_scores_and_by_ranks():
    a = ranking(("t", "q", "x", 10.0), ("t", "q", "y", 5.0), ("t", "q", "z", 0.0))
    b = ranking(("t", "q", "y", 0.9), ("t", "q", "w", 0.1), ("t", "only b", "w", 0.5))
    summed = fuse_rankings([a, b], "minmax", [0.5, 0.5])
    assert summed.filter(pc.equal(summed["query_id"], "q"))["doc_id"].to_pylist() == ["y", "x", "z", "w"]
    assert summed["score"].to_pylist() == pytest.approx([0.75, 0.5, 0, 0, 0.5])
    rrf = fuse_rankings([a, b], "rrf", [1, 1])
    assert rrf["doc_id"].to_pylist()[:2] == ["y", "x"]
    assert rrf["score"][0].as_py() == pytest.approx(1 / 62 + 1 / 61)
    assert fuse_rankings([a, b], "minmax", [1, 0])["doc_id"].to_pylist()[:2] == ["x", "y"]
