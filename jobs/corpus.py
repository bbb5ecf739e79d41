"""Read the corpus: ``python jobs/corpus.py CONFIG [section.key=value ...]``."""

from reasonembed.cli.jobs import run_job

if __name__ == "__main__":
    run_job("corpus", lambda pipeline: pipeline.corpus())
