"""Builds the index of the corpus with the trained model: ``python jobs/index.py CONFIG [section.key=value ...]``."""

from reasonembed.cli.jobs import run_stage

if __name__ == "__main__":
    run_stage("index")
