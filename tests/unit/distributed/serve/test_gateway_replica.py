import asyncio
import os

import pytest

from reasonembed.distributed.serve import gateway_replica
from reasonembed.distributed.serve.application_args import ServeArgs
from reasonembed.distributed.serve.gateway_replica import GatewayReplica

FIRST, SECOND = "0123456789abcdef", "fedcba9876543210"


class NoMetrics:
    def observe_stage(self, stage, seconds):
        pass

    def observe_batch(self, batch):
        pass


@pytest.fixture
def gateway(tmp_path, monkeypatch):
    """A gateway without Ray, with a file of one key that is checked every hundredth of a second."""
    monkeypatch.setattr(gateway_replica, "ServingMetrics", NoMetrics)
    monkeypatch.setattr(gateway_replica, "log_through_serve", lambda package: None)
    monkeypatch.setattr(gateway_replica, "search_with_one_thread", lambda: None)
    monkeypatch.setattr(gateway_replica, "MIN_KEYS_SECONDS", 0.01)
    (tmp_path / "keys").write_text(f"ann: {FIRST}\n")
    return GatewayReplica(ServeArgs(keys_file=str(tmp_path / "keys"), poll_seconds=0.01), None, [])


def test_the_keys_of_a_running_gateway_follow_their_file(gateway, tmp_path):
    middleware = gateway.build_asgi_app()

    def identify(key):
        return middleware._access._keys.holder(key)

    async def change_keys():
        polling = asyncio.create_task(gateway._poll_keys())
        assert (identify(FIRST), identify(SECOND)) == ("ann", None)
        (tmp_path / "keys").write_text(f"bob: {SECOND}\n")
        os.utime(tmp_path / "keys", (1, 1))
        async with asyncio.timeout(10):
            while identify(FIRST):
                await asyncio.sleep(0.01)
        polling.cancel()
        return identify(SECOND)

    assert asyncio.run(change_keys()) == "bob"
