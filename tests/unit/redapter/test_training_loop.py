import math

import pytest
import torch
from factories import MemoryBatches, training_rows

from reasonembed.config import Encode, Train
from reasonembed.embedder.model import Embedder
from reasonembed.redapter.nonfinite import NonFiniteGradient, NonFiniteWeights
from reasonembed.redapter.training_loop import TrainingState, learning_rate, save_checkpoint, train


def settings_of(**values):
    return Train(**{"workers": 1, "engine": "torch", "zero_stage": 0, "batch_size": 3, "group_size": 4} | values)


def test_the_learning_rate_rises_and_then_falls_to_zero():
    settings = settings_of(warmup_fraction=0.1, learning_rate=1.0)
    rates = [learning_rate(settings, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) in (9, 10)
    assert rates[-1] == pytest.approx(1 / 90)
    assert learning_rate(settings_of(warmup_fraction=0.0, learning_rate=1.0), 0, 2) == 1.0


def test_the_best_checkpoint_is_the_one_that_no_earlier_one_exceeds():
    assert TrainingState().is_best
    assert TrainingState(held_out=[(2, 0.5), (4, 0.5)]).is_best
    assert not TrainingState(held_out=[(2, 0.5), (4, 0.4)]).is_best


def run(model, settings, on_step=lambda *_: None):
    batches = MemoryBatches(training_rows(6), settings)
    return train(model, batches, settings, Encode(), 0, None, on_step, lambda *_: None)


def poison_gradient(model, monkeypatch):
    """Makes all gradients NaN from now on; the vectors stay as they are."""
    forward = type(model).forward

    def poisoned(self, **inputs):
        vectors = forward(self, **inputs)
        return vectors + torch.sqrt((vectors * 0).sum())

    monkeypatch.setattr(type(model), "forward", poisoned)


@pytest.mark.parametrize("grad_cache", [False, True])
def test_a_gradient_that_is_not_finite_ends_the_training_before_the_weights_change(tiny_model, monkeypatch, grad_cache):
    settings = settings_of(steps=3, grad_cache=grad_cache)
    model = Embedder.load(str(tiny_model))
    weights, losses = {}, []

    def on_step(step, figures):
        losses.append(figures["loss"])
        if step == 1:
            weights.update({name: p.detach().clone() for name, p in model.named_parameters()})
            poison_gradient(model, monkeypatch)

    with pytest.raises(NonFiniteGradient, match=r"^step 1: the gradient's norm of 3 queries is not a finite") as caught:
        run(model, settings, on_step)
    assert len(losses) == 1
    assert math.isfinite(losses[0])
    assert len(caught.value.query_ids) == 3
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, weights[name]), name


def test_no_checkpoint_is_written_with_a_weight_that_is_not_finite(tiny_model, tmp_path):
    settings = settings_of(steps=1)
    engine, state = run(Embedder.load(str(tiny_model)), settings)
    with torch.no_grad():
        next(engine.model.parameters())[0, 0] = float("inf")
    with pytest.raises(NonFiniteWeights, match=r"^after 1 steps a weight is not a finite number and nothing is saved"):
        save_checkpoint(engine, state, tmp_path, settings)
    assert list(tmp_path.iterdir()) == []
