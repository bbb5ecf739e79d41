"""Trains the embedder: ``python jobs/train.py CONFIG [section.key=value ...]``; ``train.dry_run=true`` plans it."""

from reasonembed.artifacts import Artifact
from reasonembed.cli.jobs import run_job
from reasonembed.pipeline.pipeline import Pipeline


def train(pipeline: Pipeline) -> Artifact | tuple[str, dict[str, object]]:
    if pipeline.config.train.dry_run:
        from reasonembed.pipeline.dry_run import dry_run

        return dry_run(pipeline.config)
    return pipeline.run("train")


if __name__ == "__main__":
    run_job("train", train)
