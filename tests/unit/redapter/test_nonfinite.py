import pickle

import pytest

from reasonembed.errors import JobFailed
from reasonembed.redapter.nonfinite import REMEDY, NonFiniteGradient, NonFiniteLoss, NonFiniteWeights


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (NonFiniteLoss, "step 3: the loss of 4 queries is not a finite number (a, b, c, ...); "),
        (NonFiniteGradient, "step 3: the gradient's norm of 4 queries is not a finite number (a, b, c, ...); "),
    ],
)
def test_the_error_of_a_step_names_it_and_its_queries_and_survives_pickling(kind, message):
    error = pickle.loads(pickle.dumps(kind(3, ["a", "b", "c", "d"])))
    assert type(error) is kind
    assert isinstance(error, JobFailed)
    assert (error.step, error.query_ids) == (3, ["a", "b", "c", "d"])
    assert str(error) == message + REMEDY


def test_the_error_of_weights_survives_pickling():
    error = pickle.loads(pickle.dumps(NonFiniteWeights(6)))
    assert error.step == 6
    assert str(error) == f"after 6 steps a weight is not a finite number and nothing is saved; {REMEDY}"
