import pytest
from ray.exceptions import RayTaskError, UserCodeException
from ray.train import WorkerGroupError

from reasonembed.distributed.ray_errors import expected_error
from reasonembed.errors import JobFailed, UserError

RETRY_LINES = "\nFailed to apply UDF transform after 1/1 attempts (total backoff 0.0s).\nTo change retry attempts, ..."


def wrap(error):
    return RayTaskError("f", "a long\ntraceback", error).as_instanceof_cause()


@pytest.mark.parametrize("kind", [UserError, JobFailed])
def test_an_expected_error_is_unwrapped_to_its_one_line(kind):
    error = kind("one line")
    assert expected_error(error) is error
    outer = RuntimeError("outer")
    outer.__cause__ = wrap(error)
    for wrapper in (wrap(error), WorkerGroupError("workers failed", {0: wrap(error)}), outer):
        unwrapped = expected_error(wrapper)
        assert type(unwrapped) is kind
        assert str(unwrapped) == "one line"


def test_an_expected_error_may_have_a_cause():
    error = UserError("one line")
    error.__cause__ = OSError("disk")
    assert expected_error(error) is error


@pytest.mark.parametrize("kind", [UserError, JobFailed])
def test_lines_that_ray_data_appends_are_removed(kind):
    unwrapped = expected_error(wrap(kind("one line" + RETRY_LINES)))
    assert type(unwrapped) is kind
    assert str(unwrapped) == "one line"


def test_an_error_of_this_process_is_returned_with_all_lines():
    assert str(expected_error(UserError("first\nsecond"))) == "first\nsecond"


def test_a_subclass_is_an_expected_error():
    class NotFinite(JobFailed):
        pass

    assert isinstance(expected_error(wrap(NotFinite("one line"))), JobFailed)


@pytest.mark.parametrize("bug", [ValueError("x"), wrap(ValueError("x")), wrap(UserCodeException("x"))])
def test_a_bug_is_not_an_expected_error(bug):
    assert expected_error(bug) is None
