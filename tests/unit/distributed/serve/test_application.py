import pytest

from reasonembed.config import Resources
from reasonembed.distributed.serve.application import build
from reasonembed.distributed.serve.application_args import ServeArgs
from reasonembed.errors import UserError


def test_a_missing_key_file_is_an_error_before_anything_is_deployed():
    with pytest.raises(UserError, match="does not exist"):
        build(ServeArgs(keys_file="/nowhere/keys"))


def test_behind_haproxy_keys_are_required(monkeypatch):
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "1")
    with pytest.raises(UserError, match="cannot see who sends a request"):
        build(ServeArgs())
    assert build(ServeArgs(host="127.0.0.1")) is not None


def test_a_gpu_for_searches_goes_to_the_shards():
    search = Resources(gpus=0.5, pool="serve")
    with pytest.raises(UserError, match="set search_shards to 1 or more"):
        build(ServeArgs(host="127.0.0.1", search=search))
    application = build(ServeArgs(host="127.0.0.1", search=search, search_shards=1))
    [shard] = application._bound_deployment.init_args[2]
    assert shard._bound_deployment.ray_actor_options["num_gpus"] == 0.5
    assert shard._bound_deployment.init_args == (0, 1, "cuda")


def test_gateways_beside_encoders_use_their_pool_without_its_gpus():
    gateway = build(ServeArgs(host="127.0.0.1", place=Resources(cpus=2, gpus=1, pool="mine")))._bound_deployment
    encoder = gateway.init_args[1]._bound_deployment
    assert encoder.ray_actor_options["num_gpus"] == 1
    assert "num_gpus" not in gateway.ray_actor_options or not gateway.ray_actor_options["num_gpus"]
    assert gateway.ray_actor_options["num_cpus"] == 0.5
    assert gateway.ray_actor_options["label_selector"] == encoder.ray_actor_options["label_selector"]
