"""Measures ``evaluate.model`` on ``evaluate.benchmark``, or compares two evaluations:

    python jobs/evaluate.py CONFIG [section.key=value ...]
    python jobs/evaluate.py compare A B [--to compare.html]

A and B are folders of finished evaluations, as the first form names them in its last line.
"""

import sys

from reasonembed.cli.jobs import run_comparison, run_job
from reasonembed.pipeline.run_report import evaluate_and_show

if __name__ == "__main__":
    if sys.argv[1:2] == ["compare"]:
        run_comparison(sys.argv[2:])
    run_job("evaluate", evaluate_and_show)
