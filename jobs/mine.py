"""Finds candidates for every query: ``python jobs/mine.py CONFIG [section.key=value ...]``."""

from reasonembed.cli.jobs import run_stage

if __name__ == "__main__":
    run_stage("mine")
