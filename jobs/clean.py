"""Decides which documents belong to their task: ``python jobs/clean.py CONFIG [section.key=value ...]``."""

from reasonembed.cli.jobs import run_stage

if __name__ == "__main__":
    run_stage("clean")
