"""Grades every (query, candidate) pair: ``python jobs/annotate.py CONFIG [section.key=value ...]``."""

from reasonembed.cli.jobs import run_stage

if __name__ == "__main__":
    run_stage("annotate")
