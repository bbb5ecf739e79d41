import pytest
import torch

from reasonembed.config import Train
from reasonembed.redapter.engines.torch_engine import TorchEngine
from reasonembed.redapter.engines.training_engine import NonFiniteNorm


class Square(torch.nn.Module):
    """A model with one weight, whose gradient is twice the weight times the input."""

    def __init__(self, value):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([value]))

    def forward(self, inputs):
        return self.weight**2 * inputs


def engine_of(value, max_grad_norm=100.0):
    model = Square(value)
    settings = Train(workers=1, engine="torch", zero_stage=0, max_grad_norm=max_grad_norm)
    return TorchEngine(model, torch.optim.SGD(model.parameters(), lr=9.0), settings)


def backward(engine, value):
    engine.backward(engine({"inputs": torch.tensor(value)}).sum())


def test_gradients_add_up_until_the_step_and_are_cleared_after_it():
    engine = engine_of(2.0)
    backward(engine, 1.0)
    backward(engine, 3.0)
    engine.step(0.1)
    assert engine.model.weight.item() == pytest.approx(2.0 - 0.1 * (4 + 12))
    engine.step(0.1)
    assert engine.model.weight.item() == pytest.approx(0.4)


def test_gradients_are_clipped():
    engine = engine_of(2.0, max_grad_norm=1.0)
    backward(engine, 1.0)
    engine.step(0.1)
    assert engine.model.weight.item() == pytest.approx(1.9, abs=1e-5)


def test_a_checkpoint_holds_weights_optimiser_and_state(tmp_path):
    engine = engine_of(2.0)
    backward(engine, 1.0)
    engine.step(0.25)
    engine.save(tmp_path, {"step": 1})
    other = engine_of(7.0)
    assert other.load(tmp_path) == {"step": 1}
    assert torch.equal(other.model.weight, engine.model.weight)
    assert other._optimizer.param_groups[0]["lr"] == 0.25


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1e30])
def test_a_norm_that_is_not_finite_changes_no_weight(value):
    engine = engine_of(2.0)
    backward(engine, 1.0)
    engine.model.weight.grad.fill_(value)
    if value == 1e30:
        # Finite numbers whose squares are not.
        engine._trained.append(torch.nn.Parameter(torch.zeros(1)))
        engine._trained[1].grad = torch.full((1,), value)
    with pytest.raises(NonFiniteNorm):
        engine.step(0.1)
    assert engine.model.weight.item() == 2.0


def test_weights_that_are_not_finite_are_noticed():
    engine = engine_of(2.0)
    assert engine.weights_are_finite()
    for value in (float("inf"), float("nan")):
        engine.model.weight.data.fill_(value)
        assert not engine.weights_are_finite()
