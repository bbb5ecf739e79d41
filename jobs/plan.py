"""Estimates calls, tokens, GPU-hours and cost: ``python jobs/plan.py CONFIG [section.key=value ...]``."""

from reasonembed.cli.jobs import run_job
from reasonembed.pipeline.cost_report import plan

if __name__ == "__main__":
    run_job("plan", plan)
