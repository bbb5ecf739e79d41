"""Measures a TREC run file by relevance judgements (qrels), with confidence intervals, and compares two runs.

The files in `examples/data` are made up; use your own in their form. It needs no network, no GPU and no Ray. After
`make setup`, run it in the repository root:

    .venv/bin/python examples/evaluate_run.py
    .venv/bin/python examples/evaluate_run.py RUN QRELS [BASELINE_RUN]
"""

import sys

import pyarrow as pa

from reasonembed.evaluation.metrics import AVERAGE, differences, intervals, means, per_question
from reasonembed.evaluation.trec import questions_from_qrels, ranking_from_run, read_qrels, read_run

EXAMPLE = ["examples/data/system.run", "examples/data/qrels.txt", "examples/data/baseline.run"]
RESAMPLES, PERMUTATIONS, SEED = 2000, 10_000, 42


def measured(run: str, questions: pa.Table) -> pa.Table:
    """Returns one row of measures per judged query; a query that the run does not rank scores zero."""
    return per_question(questions, ranking_from_run(read_run(run), questions, run))


def main(run: str, qrels: str, baseline: str | None = None) -> None:
    """Prints the mean of every measure, the interval of nDCG@10, and the paired difference from the baseline."""
    questions = questions_from_qrels(read_qrels(qrels), task="example")
    values = measured(run, questions)
    print(f"{run}: {values.num_rows} judged queries")
    for measure, value in means(values)[AVERAGE].items():
        print(f"  {measure:<12}{value:.4f}")
    interval = intervals(values, RESAMPLES, SEED)[AVERAGE]
    print(f"  ndcg@10, 95% bootstrap interval: {interval.low:.4f} to {interval.high:.4f}")
    if baseline:
        gain = differences(values, measured(baseline, questions), RESAMPLES, PERMUTATIONS, SEED)[AVERAGE]
        print(f"difference in ndcg@10 from {baseline}: {gain.value:+.4f}")
        print(f"  95% bootstrap interval: {gain.low:+.4f} to {gain.high:+.4f}")
        print(f"  paired randomisation test: p = {gain.p:.4f}")


if __name__ == "__main__":
    main(*(sys.argv[1:] or EXAMPLE))
