"""Runs and qrels from files, measured by us, by trec_eval's own code and by formulas that are written out here."""

import math
import random
from collections import defaultdict

import numpy as np
import pytest
import pytrec_eval
from evaluation_tables import questions

from reasonembed.errors import UserError
from reasonembed.evaluation.metrics import MEASURES, means, per_question
from reasonembed.evaluation.trec import format_run, questions_from_qrels, ranking_from_run, read_qrels, read_run

TREC_EVAL_NAMES = {
    "ndcg@10": "ndcg_cut_10",
    "recall@10": "recall_10",
    "recall@100": "recall_100",
    "recall@1000": "recall_1000",
    "mrr": "recip_rank",
}


def write_random_files(folder, seed, space=" "):
    """Writes a run with ties and unjudged documents, and qrels with grades from 0 to 3. Each of the two files lacks one
    query of the other. Returns the content of both."""
    rng = random.Random(seed)
    qrels, run = {}, {}
    for q in range(12):
        query = f"query{space}{q}"
        pool = [f"doc{space}{q}.{n}" for n in range(60)]
        qrels[query] = {d: rng.choice([0, 0, 1, 2, 3]) for d in rng.sample(pool, 25)}
        run[query] = {d: rng.randint(0, 9) / 7 for d in rng.sample(pool, 45)}
    del run[f"query{space}3"]
    del qrels[f"query{space}5"]
    qrels[f"query{space}7"] = dict.fromkeys(qrels[f"query{space}7"], 0)
    separator = "\t" if space == " " else " "
    lines = [separator.join((q, "Q0", d, "1", repr(s), "tag")) for q, ds in run.items() for d, s in ds.items()]
    rng.shuffle(lines)
    (folder / "run.trec").write_text("\n".join(lines))
    judgements = [separator.join((q, "0", d, str(g))) for q, ds in qrels.items() for d, g in ds.items()]
    (folder / "qrels.txt").write_text("\n".join(judgements) + "\n")
    return run, qrels


def measure_files(folder):
    table = questions_from_qrels(read_qrels(str(folder / "qrels.txt")), "t")
    return per_question(table, ranking_from_run(read_run(str(folder / "run.trec")), table, "run.trec"))


@pytest.mark.parametrize("space", [" ", "-"])
@pytest.mark.parametrize("seed", range(4))
def test_measures_equal_those_of_trec_eval(tmp_path, seed, space):
    run, qrels = write_random_files(tmp_path, seed, space)
    reference = pytrec_eval.RelevanceEvaluator(qrels, set(TREC_EVAL_NAMES.values())).evaluate(run)
    table = measure_files(tmp_path)
    for row in table.to_pylist():
        for name in MEASURES:
            expected = reference.get(row["query_id"], {}).get(TREC_EVAL_NAMES[name], 0.0)
            assert row[name] == pytest.approx(expected, abs=1e-5), (row["query_id"], name)
    # As with `trec_eval -c`, queries without a ranking count as zero.
    for name in MEASURES:
        expected = sum(values[TREC_EVAL_NAMES[name]] for values in reference.values()) / len(qrels)
        assert means(table)["average"][name] == pytest.approx(expected, abs=1e-5)


def test_measures_equal_formulas_that_are_written_out(tmp_path):
    run, qrels = write_random_files(tmp_path, 9)
    for row in measure_files(tmp_path).to_pylist():
        grades = qrels[row["query_id"]]
        # Scores are in single precision; of equal scores the greater id comes first.
        order = sorted(run.get(row["query_id"], {}).items(), key=lambda p: (np.float32(p[1]), p[0]), reverse=True)
        gains = [grades.get(doc_id, 0) for doc_id, _ in order]
        dcg = sum(g / math.log2(n + 2) for n, g in enumerate(gains[:10]))
        ideal = sum(g / math.log2(n + 2) for n, g in enumerate(sorted(grades.values(), reverse=True)[:10]))
        relevant = sum(g > 0 for g in grades.values())
        assert row["ndcg@10"] == pytest.approx(dcg / ideal if ideal else 0, abs=1e-5)
        assert row["recall@10"] == pytest.approx(sum(g > 0 for g in gains[:10]) / relevant if relevant else 0)
        first = next((n for n, g in enumerate(gains, start=1) if g > 0), None)
        assert row["mrr"] == pytest.approx(1 / first if first else 0, abs=1e-5)


def test_a_written_run_reads_back_equal(tmp_path):
    run, _ = write_random_files(tmp_path, 1)
    table = questions_from_qrels(read_qrels(str(tmp_path / "qrels.txt")), "t")
    first = ranking_from_run(run, table, "run")
    (tmp_path / "again.trec").write_text(format_run(first, "tag"))
    again = ranking_from_run(read_run(str(tmp_path / "again.trec")), table, "again")
    assert again.equals(first)


def test_ids_with_spaces_need_no_tabs(tmp_path):
    (tmp_path / "run").write_text("query 1 Q0 a long name.txt 1 0.5 my-tag\nplain Q0 d 1 0.25 tag\n")
    assert read_run(str(tmp_path / "run")) == {"query 1": {"a long name.txt": 0.5}, "plain": {"d": 0.25}}
    (tmp_path / "qrels").write_text("query 1 0 a long name.txt 2\nplain 0 d 1\n")
    assert read_qrels(str(tmp_path / "qrels")) == {"query 1": {"a long name.txt": 2}, "plain": {"d": 1}}


def test_beirs_qrels_are_read_too(tmp_path):
    (tmp_path / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq 1\td 1\t2\n")
    assert read_qrels(str(tmp_path / "test.tsv")) == {"q 1": {"d 1": 2}}


def test_excluded_documents_are_removed_from_a_run():
    ranking = ranking_from_run({"t/q": {"a": 3.0, "b": 2.0, "c": 1.0}}, questions(("t", "q", {"c": 1}, ["a"])), "run")
    assert ranking["doc_id"].to_pylist() == ["b", "c"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("run", "", "is empty"),
        ("run", "\n \n", "is empty"),
        ("run", "q Q0 d 1\n", "line 1: expected query id, Q0, document id"),
        ("run", "q Q0 d 1 0.5 t\nq Q0 d 2 0.4 t\n", "line 2: document 'd' is ranked twice for query 'q'"),
        ("run", "q Q0 d 1 nan t\n", "line 1"),
        ("qrels", "", "are empty"),
        ("qrels", "a b c d\nq 0 d x\n", "line 2"),
    ],
)
def test_errors_in_files_name_the_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        (read_run if name == "run" else read_qrels)(str(tmp_path / name))
    with pytest.raises(UserError, match="does not exist"):
        (read_run if name == "run" else read_qrels)(str(tmp_path / "missing"))


def test_a_run_of_other_queries_is_an_error_and_not_zero():
    table = questions_from_qrels({"q": {"d": 1}}, "t")
    with pytest.raises(UserError, match="ranks none of the judged queries"):
        ranking_from_run(defaultdict(dict, {"other": {"d": 1.0}}), table, "run")
