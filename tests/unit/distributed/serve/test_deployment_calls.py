import asyncio

import pytest
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError

from reasonembed.distributed.serve.deployment_calls import call_deployment
from reasonembed.errors import UserError
from reasonembed.serving.refusals import RequestRefused


class RetryCounter:
    def __init__(self):
        self.retries = 0

    def count_retry(self):
        self.retries += 1


def call(*outcomes):
    """Calls a deployment that raises or returns these outcomes, one per attempt; returns the result and the retries."""
    remaining, metrics = list(outcomes), RetryCounter()

    async def attempt():
        outcome = remaining.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return asyncio.run(call_deployment(attempt, metrics)), metrics.retries


def test_a_call_is_repeated_once_if_the_replica_is_lost():
    assert call("result") == ("result", 0)
    assert call(RayActorError(), "result") == ("result", 1)
    with pytest.raises(RequestRefused, match="lost twice") as error:
        call(RayActorError(), RayActorError(), "result")
    assert (error.value.status, error.value.code, error.value.retry_after) == (503, "unavailable", 1)


@pytest.mark.parametrize("cause", [RequestRefused(413, "too_long", "too many tokens"), UserError("no such index")])
def test_a_refusal_in_the_deployment_is_raised_as_it_is(cause):
    with pytest.raises(type(cause)) as error:
        call(RayTaskError("encode", "traceback", cause))
    assert error.value is cause


def test_an_unexpected_error_in_the_deployment_stays_an_error_of_ray():
    with pytest.raises(RayTaskError):
        call(RayTaskError("encode", "traceback", ValueError("unexpected")))


def test_a_full_queue_of_the_deployment_is_an_overload():
    with pytest.raises(RequestRefused) as error:
        call(BackPressureError(num_queued_requests=9, max_queued_requests=9))
    assert (error.value.status, error.value.code) == (503, "overloaded")
