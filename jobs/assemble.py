"""Make training rows of the graded pairs: ``python jobs/assemble.py CONFIG [section.key=value ...]``."""

from reasonembed.cli.jobs import run_job

if __name__ == "__main__":
    run_job("assemble", lambda pipeline: pipeline.assemble())
