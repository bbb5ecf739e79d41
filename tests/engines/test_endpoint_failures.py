"""An endpoint under load loses replicas, and gets other and broken indexes."""

import time

import pytest
from broken_indexes import write_broken_indexes
from endpoints import SteadyLoad, eventually

pytestmark = pytest.mark.extended


def test_no_request_fails_while_replicas_die_and_indexes_change(endpoint, served_indexes, tmp_path):
    first, hnsw, base = (served_indexes[name] for name in ("two shards", "hnsw", "base model"))
    with SteadyLoad(endpoint) as load:
        load.wait_for_responses()
        for deployment in ("encoder", "shard-1"):
            endpoint.replicas(deployment)[0].kill()
            load.wait_for_responses()
        eventually(lambda: len(endpoint.replicas("encoder")) == 2)

        for index in (hnsw, base):  # another index of the same model, then another model
            endpoint.point_to(index.uri)
            load.wait_for_index(index.fingerprint)
        load.wait_for_responses()

        for broken in write_broken_indexes(first, tmp_path):
            endpoint.point_to(broken)
            time.sleep(2)
            load.wait_for_responses(30)
        (endpoint.root / "index" / "latest").write_text("{half of a poin")
        load.wait_for_responses(30)
        endpoint.point_to(first.uri)
        load.wait_for_index(first.fingerprint)
        load.wait_for_responses(30)
    assert set(load.statuses) == {200}, load.statuses
    models = {
        fingerprint: {m for _, f, m in load.responses if f == fingerprint} for _, fingerprint, _ in load.responses
    }
    assert set(models) == {first.fingerprint, hnsw.fingerprint, base.fingerprint}  # and no broken one
    assert all(len(of_index) == 1 for of_index in models.values())
    assert models[first.fingerprint] != models[base.fingerprint]


def test_a_killed_gateway_loses_only_the_requests_that_it_was_answering(endpoint):
    with SteadyLoad(endpoint) as load:
        load.wait_for_responses()
        endpoint.replicas("gateway")[0].kill()
        load.wait_for_responses()
        eventually(lambda: len(endpoint.replicas("gateway")) == 2)
        load.wait_for_responses()
    lost = sum(count for status, count in load.statuses.items() if status != 200)
    assert lost <= len(load.threads)
