import pytest
from ray.exceptions import RayTaskError
from ray.train import WorkerGroupError

from reasonembed.errors import JobFailed, UserError, intended


def wrapped(error):
    return RayTaskError("f", "a long\ntraceback", error).as_instanceof_cause()


@pytest.mark.parametrize("kind", [UserError, JobFailed])
def test_what_a_worker_means_comes_out_of_rays_wrappers_in_one_line(kind):
    meant = kind("one line")
    assert intended(meant) is meant
    assert str(intended(wrapped(meant))) == "one line"
    assert str(intended(WorkerGroupError("workers failed", {0: wrapped(meant)}))) == "one line"
    outer = RuntimeError("outer")
    outer.__cause__ = wrapped(meant)
    assert str(intended(outer)) == "one line"
    explained = kind("one line")
    explained.__cause__ = OSError("disk")
    assert intended(explained) is explained


def test_a_bug_is_no_intended_error():
    assert intended(ValueError("x")) is None
    assert intended(wrapped(ValueError("x"))) is None
