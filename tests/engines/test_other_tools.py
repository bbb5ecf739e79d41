"""Training rows are exported for other tools and read back."""

import json
from pathlib import Path

import datasets
import pytest
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.losses import MultipleNegativesRankingLoss

from reasonembed import artifacts, schemas
from reasonembed.remixer.assemble import usable_rows
from reasonembed.remixer.interchange import read_published

pytestmark = pytest.mark.extended


def closing_line(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_exported_jsonl_is_read_back_unchanged_and_trains_elastically(pipeline_run, tmp_path, run_job):
    exported = closing_line(run_job("export", pipeline_run.config, f"export.to={tmp_path / 'out'}"))
    assembled = artifacts.load(pipeline_run.summary["artifacts"]["assemble"])
    rows = usable_rows(assembled.table(schemas.TRAINING))
    imported = read_published(exported["artifact"])
    assert exported["rows"] == imported.num_rows == rows.num_rows
    assert imported.sort_by("query_id").equals(rows.sort_by("query_id"))

    # With train.min_workers Ray Train may continue with one worker.
    overrides = [f"train.data={exported['artifact']}", "train.steps=2", "train.zero_stage=0"]
    overrides += ["train.workers=2", "train.min_workers=1"]
    trained = closing_line(run_job("train", pipeline_run.config, *overrides))
    record = artifacts.load(trained["artifact"]).record
    batches = artifacts.load(record["inputs"]["batches"]["uri"]).record
    assert batches["inputs"]["training"]["uri"].split("/")[-3] == "training_data"
    assert len(json.loads(Path(trained["artifact"], "history.json").read_text())) == 2

    second = run_job("export", pipeline_run.config, f"export.to={tmp_path / 'out'}")
    assert second.returncode == 2
    assert "is not empty" in second.stderr.splitlines()[-1]


def test_sentence_transformers_trains_on_an_exported_datasets_folder(pipeline_run, tmp_path, run_job, tiny_model):
    overrides = [f"export.to={tmp_path / 'out'}", "export.format=datasets", "export.negatives=2"]
    exported = closing_line(run_job("export", pipeline_run.config, *overrides))
    data = datasets.load_from_disk(exported["artifact"])
    assert data.column_names == ["anchor", "positive", "negative_1", "negative_2"]
    model = SentenceTransformer(str(tiny_model), device="cpu")
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path / "st"), max_steps=2, per_device_train_batch_size=4, report_to=[], use_cpu=True
    )
    trainer = SentenceTransformerTrainer(model, arguments, data, loss=MultipleNegativesRankingLoss(model))
    assert trainer.train().global_step == 2
