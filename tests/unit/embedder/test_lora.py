import pytest
import torch

from reasonembed.embedder.lora import add_adapters
from reasonembed.embedder.model import Embedder
from reasonembed.errors import JobFailed, UserError

TEXTS = ["The river and the rain", "ice"]


def with_trained_adapters(model, dropout=0.0):
    """An embedder with LoRA whose adapters are not zero, as they are before training."""
    embedder = Embedder.load(str(model))
    embedder.backbone = add_adapters(embedder.backbone, 4, 8, dropout, ["query", "value"])
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in embedder.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.3)
    return embedder


def test_only_the_adapters_are_trained(tiny_model):
    embedder = with_trained_adapters(tiny_model)
    shapes = [tuple(p.shape) for p in embedder.parameters() if p.requires_grad]
    assert sorted(shapes) == sorted([(4, 32), (32, 4)] * 4)  # two target layers in each of two layers of 32


def test_a_saved_model_contains_the_adapters_and_the_live_weights_do_not_change(tiny_model, tmp_path):
    embedder = with_trained_adapters(tiny_model)
    before = {name: value.clone() for name, value in embedder.state_dict().items()}
    vectors = embedder.encode(TEXTS, 32)
    embedder.save(tmp_path / "m", max_tokens=32)
    assert Embedder.load(str(tmp_path / "m")).encode(TEXTS, 32) == pytest.approx(vectors, abs=1e-5)
    assert abs(Embedder.load(str(tiny_model)).encode(TEXTS, 32) - vectors).max() > 0.01
    after = embedder.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_the_error_for_an_unknown_target_names_the_layers_that_exist(tiny_model):
    with pytest.raises(UserError, match="no layer named q_proj; its linear layers end in dense, key, query, value"):
        add_adapters(Embedder.load(str(tiny_model)).backbone, 4, 8, 0.0, ["q_proj"])


def test_a_model_whose_merged_weights_are_not_finite_is_not_saved(tiny_model, tmp_path):
    embedder = with_trained_adapters(tiny_model)
    with torch.no_grad():
        for parameter in embedder.parameters():
            if parameter.requires_grad:
                parameter.fill_(1e30)  # finite, but not the product of two
    with pytest.raises(JobFailed, match="weights that are not finite numbers and is not saved"):
        embedder.save(tmp_path / "m", max_tokens=32)
    assert not (tmp_path / "m").exists()
