"""What ``reasonembed.distributed.ray_errors`` relies on in Ray's exceptions, checked for the pinned version."""

from importlib.metadata import requires, version

import pytest
import ray
import ray.data
from packaging.requirements import Requirement
from ray.exceptions import RayTaskError

from reasonembed.distributed.cluster import run_remote, start_ray
from reasonembed.distributed.data.datasets import data_context
from reasonembed.distributed.ray_errors import expected_error
from reasonembed.errors import JobFailed, UserError

PIN = "2.60.0"


@pytest.fixture(scope="module", autouse=True)
def running_ray():
    start_ray()
    data_context().enable_progress_bars = False
    yield
    ray.shutdown()


def test_the_pin_is_the_version_that_was_checked():
    specifiers = {str(r.specifier) for r in map(Requirement, requires("reasonembed")) if r.name == "ray"}
    assert specifiers == {f"=={PIN}"}
    assert version("ray") == PIN


def task(rows, raise_error):
    return rows.map_batches(raise_error)


def actor(rows, raise_error):
    class Worker:
        def __call__(self, batch):
            raise_error(batch)

    return rows.map_batches(Worker, compute=ray.data.ActorPoolStrategy(size=1))


def async_actor(rows, raise_error):
    class Worker:
        async def __call__(self, batch):
            raise_error(batch)
            yield batch

    return rows.map_batches(Worker, compute=ray.data.ActorPoolStrategy(size=1))


def grouped_task(rows, raise_error):
    return rows.groupby("id").map_groups(raise_error)


def raised_by_ray(transform, raise_error):
    """The exception that Ray Data raises in the process of a job."""
    data_context()
    with pytest.raises(RayTaskError) as raised:
        transform(ray.data.range(2), raise_error).materialize()
    return raised.value


@pytest.mark.parametrize("transform", [task, actor, async_actor, grouped_task])
def test_an_expected_error_of_a_dataset_reaches_the_job_in_one_line(transform):
    def raise_error(batch):
        raise JobFailed("one line")

    error = expected_error(raised_by_ray(transform, raise_error))
    assert isinstance(error, JobFailed)
    assert str(error) == "one line"


def test_an_expected_error_of_a_dataset_within_a_worker_reaches_the_job_in_one_line():
    def run_dataset():
        def raise_error(batch):
            raise UserError("one line")

        data_context().enable_progress_bars = False
        ray.data.range(2).map_batches(raise_error).materialize()

    with pytest.raises(RayTaskError) as raised:
        run_remote(run_dataset)
    error = expected_error(raised.value)
    assert isinstance(error, UserError)
    assert str(error) == "one line"


def test_a_bug_in_the_handling_of_an_expected_error_stays_a_bug():
    def raise_error(batch):
        try:
            raise UserError("one line")
        except UserError as error:
            raise ValueError("bug") from error

    raised = raised_by_ray(task, raise_error)
    assert isinstance(raised, ValueError)
    assert expected_error(raised) is None


def test_without_the_option_ray_data_loses_the_original_exception():
    """When this fails, ``data_context`` need not set ``raise_original_map_exception`` any longer."""

    def raise_error(batch):
        raise UserError("one line")

    rows = ray.data.range(2)
    rows.context.raise_original_map_exception = False
    with pytest.raises(RayTaskError) as raised:
        rows.map_batches(raise_error).materialize()
    assert expected_error(raised.value) is None
