"""Write reasoning rewrites of the queries: ``python jobs/rewrite.py CONFIG [section.key=value ...]``."""

from reasonembed.cli.jobs import run_job

if __name__ == "__main__":
    run_job("rewrite", lambda pipeline: pipeline.rewrite())
