import pickle

import pytest

from reasonembed.config import Train
from reasonembed.redapter.training_loop import NonFiniteLoss, TrainingState, learning_rate


def train(**values):
    return Train(**{"workers": 1, "batch_size": 3, "group_size": 4} | values)


def test_the_learning_rate_rises_and_then_falls_to_zero():
    settings = train(warmup_fraction=0.1, learning_rate=1.0)
    rates = [learning_rate(settings, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) in (9, 10)
    assert rates[-1] == pytest.approx(1 / 90)
    assert learning_rate(train(warmup_fraction=0.0, learning_rate=1.0), 0, 2) == 1.0


def test_the_best_checkpoint_is_the_one_that_no_earlier_one_exceeds():
    assert TrainingState().is_best
    assert TrainingState(held_out=[(2, 0.5), (4, 0.5)]).is_best
    assert not TrainingState(held_out=[(2, 0.5), (4, 0.4)]).is_best


def test_the_error_of_a_loss_that_is_not_finite_survives_pickling():
    error = pickle.loads(pickle.dumps(NonFiniteLoss(3, ["a", "b", "c", "d"])))
    assert (error.step, error.query_ids) == (3, ["a", "b", "c", "d"])
    assert str(error) == "step 3: the loss of 4 queries is not a finite number (a, b, c, ...)"
