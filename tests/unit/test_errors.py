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


TRACE = """worker (pid=1)
reasonembed.errors.{}: one line

The above exception was the {}:

worker (pid=1)
{}: it failed"""


def test_what_ray_data_has_lost_is_read_from_its_text():
    cause = "direct cause of the following exception"
    lost = RayTaskError("f", TRACE.format("JobFailed", cause, "ray.exceptions.UserCodeException"), RuntimeError())
    assert isinstance(intended(lost), JobFailed)
    assert str(intended(lost)) == "one line"
    # A bug in the handling of an intended error is a bug.
    assert intended(RayTaskError("f", TRACE.format("UserError", cause, "ValueError"), ValueError())) is None


def test_a_bug_is_no_intended_error():
    assert intended(ValueError("x")) is None
    assert intended(wrapped(ValueError("x"))) is None
