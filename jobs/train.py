"""Train the embedder: ``python jobs/train.py CONFIG [section.key=value ...]``."""

from reasonembed.distributed.jobs import run_job

if __name__ == "__main__":
    run_job("train", lambda pipeline: pipeline.train())
