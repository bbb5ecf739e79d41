"""Runs all stages, from the corpus to the report: ``python jobs/pipeline.py CONFIG [section.key=value ...]``."""

from reasonembed.cli.jobs import run_job
from reasonembed.pipeline.run_report import write_report

if __name__ == "__main__":
    run_job("pipeline", write_report)
