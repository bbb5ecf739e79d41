"""Write a query for each of a sample of documents: ``python jobs/generate.py CONFIG [section.key=value ...]``."""

from reasonembed.cli.jobs import run_job

if __name__ == "__main__":
    run_job("generate", lambda pipeline: pipeline.generate())
