"""Files of runs and judgements, measured beside trec_eval's own code and beside formulas written out here."""

import math
import random
from collections import defaultdict

import numpy as np
import pytest
import pytrec_eval

from reasonembed.errors import UserError
from reasonembed.evaluation.metrics import MEASURES, means, per_question
from reasonembed.evaluation.trec import questions_of, ranking_of, read_qrels, read_run, run_lines

TREC = {
    "ndcg@10": "ndcg_cut_10",
    "recall@10": "recall_10",
    "recall@100": "recall_100",
    "recall@1000": "recall_1000",
    "mrr": "recip_rank",
}


def random_files(folder, seed, space=" "):
    """A run with ties, unjudged documents and queries that only one of the files has; grades from 0 to 3."""
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
    tab = "\t" if space == " " else " "
    lines = [tab.join((q, "Q0", d, "1", repr(s), "tag")) for q, ds in run.items() for d, s in ds.items()]
    rng.shuffle(lines)
    (folder / "run.trec").write_text("\n".join(lines))
    judged = [tab.join((q, "0", d, str(g))) for q, ds in qrels.items() for d, g in ds.items()]
    (folder / "qrels.txt").write_text("\n".join(judged) + "\n")
    return run, qrels


def ours(folder):
    questions = questions_of(read_qrels(str(folder / "qrels.txt")), "t")
    return per_question(questions, ranking_of(read_run(str(folder / "run.trec")), questions, "run.trec"))


@pytest.mark.parametrize("space", [" ", "-"])
@pytest.mark.parametrize("seed", range(4))
def test_figures_equal_trec_evals(tmp_path, seed, space):
    run, qrels = random_files(tmp_path, seed, space)
    theirs = pytrec_eval.RelevanceEvaluator(qrels, set(TREC.values())).evaluate(run)
    table = ours(tmp_path)
    for row in table.to_pylist():
        for name in MEASURES:
            expected = theirs.get(row["query_id"], {}).get(TREC[name], 0.0)
            assert row[name] == pytest.approx(expected, abs=1e-5), (row["query_id"], name)
    # `trec_eval -c`: queries without a ranking count as zero.
    for name in MEASURES:
        expected = sum(found[TREC[name]] for found in theirs.values()) / len(qrels)
        assert means(table)["average"][name] == pytest.approx(expected, abs=1e-5)


def test_figures_equal_formulas_written_out(tmp_path):
    run, qrels = random_files(tmp_path, 9)
    for row in ours(tmp_path).to_pylist():
        judged = qrels[row["query_id"]]
        # Scores are single-precision; of equal ones the greater id comes first.
        found = sorted(run.get(row["query_id"], {}).items(), key=lambda p: (np.float32(p[1]), p[0]), reverse=True)
        gains = [judged.get(doc_id, 0) for doc_id, _ in found]
        dcg = sum(g / math.log2(n + 2) for n, g in enumerate(gains[:10]))
        ideal = sum(g / math.log2(n + 2) for n, g in enumerate(sorted(judged.values(), reverse=True)[:10]))
        relevant = sum(g > 0 for g in judged.values())
        assert row["ndcg@10"] == pytest.approx(dcg / ideal if ideal else 0, abs=1e-5)
        assert row["recall@10"] == pytest.approx(sum(g > 0 for g in gains[:10]) / relevant if relevant else 0)
        first = next((n for n, g in enumerate(gains, start=1) if g > 0), None)
        assert row["mrr"] == pytest.approx(1 / first if first else 0, abs=1e-5)


def test_a_run_that_was_written_reads_back_equal(tmp_path):
    run, _ = random_files(tmp_path, 1)
    questions = questions_of(read_qrels(str(tmp_path / "qrels.txt")), "t")
    first = ranking_of(run, questions, "run")
    (tmp_path / "again.trec").write_text(run_lines(first, "tag"))
    again = ranking_of(read_run(str(tmp_path / "again.trec")), questions, "again")
    assert again.equals(first)


def test_ids_with_spaces_need_no_tabs(tmp_path):
    (tmp_path / "run").write_text("query 1 Q0 a long name.txt 1 0.5 my-tag\nplain Q0 d 1 0.25 tag\n")
    assert read_run(str(tmp_path / "run")) == {"query 1": {"a long name.txt": 0.5}, "plain": {"d": 0.25}}
    (tmp_path / "qrels").write_text("query 1 0 a long name.txt 2\nplain 0 d 1\n")
    assert read_qrels(str(tmp_path / "qrels")) == {"query 1": {"a long name.txt": 2}, "plain": {"d": 1}}


def test_beirs_judgements_are_read_too(tmp_path):
    (tmp_path / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq 1\td 1\t2\n")
    assert read_qrels(str(tmp_path / "test.tsv")) == {"q 1": {"d 1": 2}}


def test_excluded_documents_leave_a_run():
    import pyarrow as pa

    from reasonembed import schemas
    from reasonembed.corpora.tables import question_row

    rows = [question_row("t", "q", "?", "", {"c": 1}, ["a"])]
    questions = pa.Table.from_pylist(rows, schema=schemas.QUESTIONS)
    found = ranking_of({"t/q": {"a": 3.0, "b": 2.0, "c": 1.0}}, questions, "run")
    assert found["doc_id"].to_pylist() == ["b", "c"]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("run", "", "is empty"),
        ("run", "\n \n", "is empty"),
        ("run", "q Q0 d 1\n", "line 1: query id, Q0, document id"),
        ("run", "q Q0 d 1 0.5 t\nq Q0 d 2 0.4 t\n", "line 2: document 'd' stands twice"),
        ("run", "q Q0 d 1 nan t\n", "line 1"),
        ("qrels", "", "are empty"),
        ("qrels", "a b c d\nq 0 d x\n", "line 2"),
    ],
)
def test_bad_files_are_named_with_their_line(tmp_path, name, text, says):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=says):
        (read_run if name == "run" else read_qrels)(str(tmp_path / name))
    with pytest.raises(UserError, match="does not exist"):
        (read_run if name == "run" else read_qrels)(str(tmp_path / "nowhere"))


def test_a_run_of_other_queries_is_no_zero():
    questions = questions_of({"q": {"d": 1}}, "t")
    with pytest.raises(UserError, match="ranks none of the queries"):
        ranking_of(defaultdict(dict, {"other": {"d": 1.0}}), questions, "run")
