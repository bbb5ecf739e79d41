"""Writes a query for each of a sample of documents: ``python jobs/generate.py CONFIG [section.key=value ...]``."""

from reasonembed.cli.jobs import run_stage

if __name__ == "__main__":
    run_stage("generate")
