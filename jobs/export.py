"""Exports training rows for other tools: ``python jobs/export.py CONFIG export.to=FOLDER [section.key=value ...]``."""

from typing import Any

from reasonembed.cli.jobs import run_job
from reasonembed.pipeline.pipeline import Pipeline
from reasonembed.pipeline.training_stages import training_rows
from reasonembed.remixer.interchange import export_training


def export(pipeline: Pipeline) -> tuple[str, dict[str, Any]]:
    """Writes the training rows of the configuration to ``export.to``."""
    training = pipeline.build(training_rows(pipeline))
    return export_training(training, pipeline.config.export, pipeline.config.encode.instruct)


if __name__ == "__main__":
    run_job("export", export)
