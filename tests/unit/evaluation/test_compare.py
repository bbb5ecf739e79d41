import pytest
from artifact_files import write_artifact
from evaluation_tables import questions, ranking

from reasonembed.config import Config
from reasonembed.errors import UserError
from reasonembed.evaluation.compare import compare, write_page
from reasonembed.evaluation.evaluate import Benchmark, evaluate_ranking


@pytest.fixture
def evaluation(tmp_path):
    """Writes the artifact of an evaluation and returns its URI."""

    def make(number, ranked, table, name="mine"):
        folder = tmp_path / "evaluate" / f"{number}00000000000"
        figures = evaluate_ranking(name, ranked, Benchmark("judged", table, None), Config(), str(folder))
        return write_artifact(folder, stage="evaluate", config={"benchmark": "judged"}, figures=figures).uri

    return make


def test_two_evaluations_of_the_same_questions(evaluation, tmp_path):
    table = questions(("t", "q", {"d 0": 1}, []), ("t", "r", {"d 1": 1}, []))
    a = evaluation(1, ranking(("t", "q", "d 0", 1.0)), table)
    b = evaluation(2, ranking(("t", "q", "d 0", 1.0), ("t", "r", "d 1", 1.0)), table)
    comparison = compare(a, f"{b}/report.html", Config())
    assert comparison.figures["a"]["artifact"] == a
    assert comparison.figures["b"]["average"]["mrr"] == 1
    assert comparison.figures["difference"]["average"]["value"] == 0.5
    assert [comparison.figures[side]["system"] for side in "ab"] == ["mine (100000)", "mine (200000)"]
    write_page(comparison, str(tmp_path / "compare.html"))
    assert "mine (200000) compared with mine (100000) on judged" in (tmp_path / "compare.html").read_text()


def test_what_cannot_be_compared_is_an_error_in_one_line(evaluation, tmp_path):
    a = evaluation(1, ranking(("t", "q", "d 0", 1.0)), questions(("t", "q", {"d 0": 1}, [])))
    b = evaluation(2, ranking(("t", "r", "d 0", 1.0)), questions(("t", "r", {"d 0": 1}, [])))
    with pytest.raises(UserError, match=r"1 questions of judged.*only evaluations of the same questions"):
        compare(a, b, Config())
    with pytest.raises(UserError, match=r'is no finished evaluation; name a folder "<run\.root>/evaluate/<id>"'):
        compare(a, str(tmp_path), Config())
