"""Measure ``evaluate.model`` on ``evaluate.benchmark``: ``python jobs/evaluate.py CONFIG [section.key=value ...]``."""

from reasonembed.distributed.jobs import run_job

if __name__ == "__main__":
    run_job("evaluate", lambda pipeline: pipeline.evaluate())
