"""Writes reasoning rewrites of the queries: ``python jobs/rewrite.py CONFIG [section.key=value ...]``."""

from reasonembed.cli.jobs import run_stage

if __name__ == "__main__":
    run_stage("rewrite")
