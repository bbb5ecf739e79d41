"""Training rows leave for other tools and come back."""

import json
from pathlib import Path

import datasets
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.losses import MultipleNegativesRankingLoss

from reasonembed import artifacts, schemas
from reasonembed.remixer.assemble import usable_rows
from reasonembed.remixer.interchange import read_published


def last_line(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_published_layout_comes_back_equal_and_trains(finished, tmp_path, run_job):
    exported = last_line(run_job("export", finished.config, f"export.to={tmp_path / 'out'}"))
    made = artifacts.load(finished.summary["artifacts"]["assemble"])
    rows = usable_rows(made.table(schemas.TRAINING))
    again = read_published(exported["artifact"])
    assert exported["rows"] == again.num_rows == rows.num_rows
    assert again.sort_by("query_id").equals(rows.sort_by("query_id"))

    # Elastic, too: Ray Train may go on with one worker.
    overrides = [f"train.data={exported['artifact']}", "train.steps=2", "train.zero_stage=0"]
    overrides += ["train.workers=2", "train.min_workers=1"]
    trained = last_line(run_job("train", finished.config, *overrides))
    record = artifacts.load(trained["artifact"]).record
    batches = artifacts.load(record["inputs"]["batches"]["uri"]).record
    assert batches["inputs"]["training"]["uri"].split("/")[-2] == "training_data"
    assert len(json.loads(Path(trained["artifact"], "history.json").read_text())) == 2

    twice = run_job("export", finished.config, f"export.to={tmp_path / 'out'}")
    assert twice.returncode == 2
    assert "is not empty" in twice.stderr.splitlines()[-1]


def test_sentence_transformers_trains_on_the_datasets_folder(finished, tmp_path, run_job, tiny_model):
    overrides = [f"export.to={tmp_path / 'out'}", "export.format=datasets", "export.negatives=2"]
    exported = last_line(run_job("export", finished.config, *overrides))
    data = datasets.load_from_disk(exported["artifact"])
    assert data.column_names == ["anchor", "positive", "negative_1", "negative_2"]
    model = SentenceTransformer(str(tiny_model), device="cpu")
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path / "st"), max_steps=2, per_device_train_batch_size=4, report_to=[], use_cpu=True
    )
    trainer = SentenceTransformerTrainer(model, arguments, data, loss=MultipleNegativesRankingLoss(model))
    assert trainer.train().global_step == 2
