"""The scripts of examples/: each runs as its docstring says, without Ray, and prints results that are right."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import pytrec_eval


@pytest.fixture(scope="module")
def run_example(repository: Path):
    """Returns a function that runs a script and gives back the lines that it prints."""

    def run(script: str, *arguments: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-X", "importtime", f"examples/{script}", *arguments],
            cwd=repository,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, "\n".join(
            line for line in done.stderr.splitlines() if not line.startswith("import time:")
        )
        modules = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
        assert "reasonembed" in modules
        assert "ray" not in modules
        return done.stdout.splitlines()

    return run


def test_search_ranks_by_embeddings_by_words_and_by_both(run_example):
    text = "\n".join(run_example("search.py"))
    laptop, error = text.split("what should I replace")
    best = re.compile(r"^    1\. +\S+  (.+)$", re.MULTILINE)
    dust, fan_club = "Dust in the cooling vents", "The fan club"
    for found, expected in zip(best.findall(laptop), (dust, fan_club, dust), strict=True):
        assert found.startswith(expected)
    assert all(found.startswith("Error E41") for found in best.findall(error))
    assert len(best.findall(error)) == 3


def test_search_takes_a_question_from_the_command_line(run_example):
    lines = run_example("search.py", "what makes a computer start slowly?")
    assert "what makes a computer start slowly?" in lines
    assert sum(" 1. " in line for line in lines) == 3
    assert all("solid-state drive" in line for line in lines if " 1. " in line)


def test_reasoning_intensity_weights_the_queries_as_the_formula_says(run_example):
    lines = run_example("reasoning_intensity.py")
    rows = [[float(value) for value in line.split()[:4]] for line in lines if line.endswith("?")]
    query, rewrite, intensity, weight = zip(*rows, strict=True)
    assert len(rows) == 3
    assert intensity == pytest.approx([min(5.0, q / r) for q, r in zip(query, rewrite, strict=True)], abs=2e-3)
    assert weight == pytest.approx([value / sum(intensity) for value in intensity], abs=1e-3)
    assert weight[2] < 1 / 3 < weight[0], "the query that needs no reasoning must weigh less"
    before, after = (float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("loss of step"))
    assert before == pytest.approx(sum(query) / 3, abs=1e-3)
    assert after == pytest.approx(sum(w * q for w, q in zip(weight, query, strict=True)), abs=2e-3)


def test_evaluate_run_agrees_with_trec_eval(run_example, repository):
    lines = run_example("evaluate_run.py")
    ndcg, mrr = (
        trec_eval_means(repository / "examples/data", "system.run")[name] for name in ("ndcg_cut_10", "recip_rank")
    )
    assert number(lines, "  ndcg@10  ") == pytest.approx(ndcg, abs=1e-4)
    assert number(lines, "  mrr") == pytest.approx(mrr, abs=1e-4)
    low, high = interval(lines, "  ndcg@10, 95%")
    assert 0 < low < ndcg < high < 1

    gain = ndcg - trec_eval_means(repository / "examples/data", "baseline.run")["ndcg_cut_10"]
    assert number(lines, "difference") == pytest.approx(gain, abs=2e-4)
    low, high = interval(lines, "  95%")
    assert low < gain < high
    p = number(lines, "  paired")
    assert 0 < p <= 1
    assert (p > 0.05) == (low < 0 < high), "on these data the interval and the test must agree"


def test_every_example_has_a_test(repository):
    tests = Path(__file__).read_text(encoding="utf-8")
    scripts = sorted(path.name for path in (repository / "examples").glob("*.py"))
    assert len(scripts) >= 3
    assert not [name for name in scripts if f'run_example("{name}"' not in tests]


def number(lines: list[str], start: str) -> float:
    """The number at the end of the one line that starts so."""
    (line,) = (line for line in lines if line.startswith(start))
    return float(line.split()[-1])


def interval(lines: list[str], start: str) -> tuple[float, float]:
    (line,) = (line for line in lines if line.startswith(start))
    low, _, high = line.split()[-3:]
    return float(low), float(high)


def trec_eval_means(data: Path, run_file: str) -> dict[str, float]:
    qrels: dict[str, dict[str, int]] = {}
    for line in (data / "qrels.txt").read_text().splitlines():
        query_id, _, doc_id, grade = line.split()
        qrels.setdefault(query_id, {})[doc_id] = int(grade)
    run: dict[str, dict[str, float]] = {}
    for line in (data / run_file).read_text().splitlines():
        query_id, _, doc_id, _, score, _ = line.split()
        run.setdefault(query_id, {})[doc_id] = float(score)
    values = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "recip_rank"}).evaluate(run).values()
    return {name: sum(value[name] for value in values) / len(qrels) for name in ("ndcg_cut_10", "recip_rank")}
