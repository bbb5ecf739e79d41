"""Training rows for other tools: ``python jobs/export.py CONFIG export.to=FOLDER [section.key=value ...]``."""

from reasonembed.cli.jobs import run_job
from reasonembed.remixer.interchange import export_training

if __name__ == "__main__":
    run_job(
        "export",
        lambda pipeline: export_training(
            pipeline.training_data(), pipeline.config.export, pipeline.config.encode.instruct
        ),
    )
