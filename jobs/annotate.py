"""Grade every (query, candidate) pair: ``python jobs/annotate.py CONFIG [section.key=value ...]``."""

from reasonembed.cli.jobs import run_job

if __name__ == "__main__":
    run_job("annotate", lambda pipeline: pipeline.annotate())
