import json

import pyarrow as pa
import pytest
from evaluation_tables import corpus, questions, ranking

from reasonembed import storage
from reasonembed.config import Config
from reasonembed.evaluation.evaluate import Baseline, Benchmark, evaluate_ranking


@pytest.fixture
def evaluated(tmp_path):
    """The figures of an evaluation in ``tmp_path``, of a ranking that lacks one of two questions."""
    table = questions(("pony", "q", {"d 0": 1}, []), ("pony", "r", {"d 1": 1}, []))
    documents = corpus("one", "two", "one").set_column(0, "task", pa.array(["pony"] * 3))
    ranked = ranking(("pony", "q", "d 2", 2.0), ("pony", "q", "d 0", 1.0))
    base = Baseline("before", ranking(("pony", "q", "d 1", 1.0), ("pony", "r", "d 0", 1.0)))
    benchmark = Benchmark("bright:somewhere", table, documents)
    return evaluate_ranking("mine", ranked, benchmark, Config(), str(tmp_path), base)


def test_figures_of_an_evaluation(evaluated, tmp_path):
    assert evaluated["scores"]["average"]["mrr"] == 0.25
    assert evaluated["equal_texts"]["added_judgements"] == 1
    assert evaluated["equal_texts"]["scores"]["average"]["mrr"] == 0.5
    assert evaluated["missing"]["questions"] == 1
    assert evaluated["missing"]["scores_without_them"]["average"]["mrr"] == 0.5
    assert evaluated["difference"]["baseline"] == "before"
    assert json.loads((tmp_path / "metrics.json").read_text()) == evaluated


def test_files_of_an_evaluation(evaluated, tmp_path):
    rows = storage.read_columns(str(tmp_path / "per_query.parquet")).to_pylist()
    assert [(row["query"], row["mrr"], row["mrr_equal_texts"]) for row in rows] == [("?", 0.5, 1.0), ("?", 0.0, 0.0)]
    assert (tmp_path / "run.trec").read_text().splitlines()[0].split("\t") == ["pony/q", "Q0", "d 2", "1", "2", "mine"]
    page = (tmp_path / "report.html").read_text()
    for text in (
        "mine − before",
        "corrected judgements",
        "1 question has no ranking and counts as zero",
        "8B published",
        "not in the ranking",
        "(1 additional judgement)",
        "2 questions, 1 task<",
    ):
        assert text in page, text
