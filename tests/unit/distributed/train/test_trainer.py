"""What a training does with damaged checkpoints and weights that are not finite, without Ray's workers."""

import json
from types import SimpleNamespace

import pytest
import ray.train
import torch

from reasonembed.distributed.train import trainer
from reasonembed.embedder.model import Embedder
from reasonembed.errors import JobFailed, UserError
from reasonembed.redapter.checkpoint_manifest import write_manifest
from reasonembed.redapter.model_card import HELD_OUT_METRIC
from reasonembed.redapter.nonfinite import NonFiniteGradient, NonFiniteWeights


def checkpoint(folder, step):
    """A checkpoint of the last step, with a model that names its step."""
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "config.json").write_text(json.dumps({"step": step}))
    (folder / "history.json").write_text(json.dumps({"history": [{"loss": 0.5}], "intensity": [[0, "q", 1.0]]}))
    write_manifest(folder)
    return ray.train.Checkpoint.from_directory(folder)


@pytest.fixture
def job(tmp_path):
    uri = str(tmp_path / "train" / "fingerprint" / "attempt")
    return SimpleNamespace(uri=uri, settings=SimpleNamespace(dev_queries=4))


def result_of(last, *best):
    entries = [(entry, {"step": step, HELD_OUT_METRIC: score}) for entry, step, score in best]
    return SimpleNamespace(checkpoint=last, best_checkpoints=entries)


def published_step(job):
    with open(f"{job.uri}/model/config.json") as file:
        return json.load(file)["step"]


def test_the_model_of_the_best_checkpoint_is_published(tmp_path, job):
    best, last = checkpoint(tmp_path / "a", 2), checkpoint(tmp_path / "b", 4)
    figures = trainer._publish(result_of(last, (best, 2, 0.75), (last, 4, 0.5)), job)
    assert published_step(job) == 2
    assert figures["best_step"] == 2


def test_of_a_step_that_was_repeated_the_later_checkpoint_is_published(tmp_path, job):
    damaged, repeated = checkpoint(tmp_path / "10-04", 2), checkpoint(tmp_path / "11-04", 2)
    (tmp_path / "10-04" / "model" / "config.json").write_text("")
    last = checkpoint(tmp_path / "12-00", 4)
    trainer._publish(result_of(last, (repeated, 2, 0.75), (damaged, 2, 0.75)), job)
    assert published_step(job) == 2


def test_a_damaged_best_checkpoint_is_one_line_that_names_the_folder_to_remove(tmp_path, job):
    best, last = checkpoint(tmp_path / "a", 2), checkpoint(tmp_path / "b", 4)
    (tmp_path / "a" / "model" / "config.json").write_text("")
    message = (
        r"^the best checkpoint, .*/a, is damaged \(model/config.json has 0 bytes.*remove the folder .*/.work/train to"
    )
    with pytest.raises(UserError, match=message):
        trainer._publish(result_of(last, (best, 2, 0.75), (last, 4, 0.5)), job)


def test_a_damaged_last_checkpoint_is_repeated_by_the_same_command(tmp_path, job):
    last = checkpoint(tmp_path / "b", 4)
    (tmp_path / "b" / "history.json").write_text("{}")
    with pytest.raises(
        JobFailed, match=r"/b is damaged \(history.json has 2 bytes.*the same command repeats its steps$"
    ):
        trainer._publish(result_of(last, (last, 4, 0.5)), job)


def test_the_queries_of_a_step_that_is_not_finite_are_listed_in_a_file(tmp_path, job):
    error = trainer._job_error(NonFiniteGradient(3, ["a", "b"]), job.uri)
    path = tmp_path / "train" / "fingerprint" / ".work" / "nonfinite.json"
    assert str(error).endswith(f"; all these queries are in {path}")
    assert json.loads(path.read_text()) == {"step": 3, "query_ids": ["a", "b"]}
    weights = NonFiniteWeights(3)
    assert trainer._job_error(weights, job.uri) is weights


def test_a_model_with_weights_that_are_not_finite_is_not_exported(tiny_model, tmp_path):
    from contextlib import nullcontext

    model = Embedder.load(str(tiny_model))
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    engine = SimpleNamespace(model=model, gathered_weights=nullcontext)
    origin = SimpleNamespace()
    job = SimpleNamespace(encode=SimpleNamespace(max_tokens=32), origin=origin)
    with pytest.raises(NonFiniteWeights, match=r"^after 6 steps"):
        trainer.export_model(engine, tmp_path / "model", job, SimpleNamespace(step=6, history=[{}]))
    assert not (tmp_path / "model").exists()
