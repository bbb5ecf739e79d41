import pytest
import torch

from reasonembed.config import Train
from reasonembed.redapter.engines.torch_engine import TorchEngine


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
