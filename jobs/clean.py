"""Tell which documents belong to their task: ``python jobs/clean.py CONFIG [section.key=value ...]``."""

from reasonembed.cli.jobs import run_job

if __name__ == "__main__":
    run_job("clean", lambda pipeline: pipeline.clean())
