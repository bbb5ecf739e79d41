"""Find candidates for every query: ``python jobs/mine.py CONFIG [section.key=value ...]``."""

from reasonembed.cli.jobs import run_job

if __name__ == "__main__":
    run_job("mine", lambda pipeline: pipeline.mine())
