"""``serve/*.yaml``: Ray Serve takes them, and so does the application."""

import re

import pytest
import yaml
from serve_configs import check_serve
from typos import refused, typos

from reasonembed.config import Resources
from reasonembed.distributed.serve.application import build
from reasonembed.distributed.serve.replicas import ServeArgs
from reasonembed.errors import UserError

FILES = ["local.yaml", "production.yaml", "production-cpu.yaml"]


@pytest.mark.parametrize("name", FILES)
def test_ray_serve_and_the_application_take_the_file(repository, name, monkeypatch):
    monkeypatch.setattr("reasonembed.distributed.serve.application.read_keys", lambda file: True)
    written = yaml.safe_load((repository / "serve" / name).read_text())
    check_serve(written)
    assert build(ServeArgs.model_validate(written["applications"][0]["args"])) is not None


@pytest.mark.parametrize("name", FILES)
def test_no_misspelt_key_goes_unseen(repository, name):
    written = yaml.safe_load((repository / "serve" / name).read_text())
    assert not [where for where, wrong in typos(written) if not refused(check_serve, wrong)]


def test_a_least_number_of_replicas_above_the_most_is_refused(repository):
    written = yaml.safe_load((repository / "serve/production.yaml").read_text())
    written["applications"][0]["deployments"][0]["autoscaling_config"]["min_replicas"] = 99
    assert refused(check_serve, written)


@pytest.mark.parametrize("name", FILES)
def test_what_others_can_reach_has_keys(repository, name):
    written = yaml.safe_load((repository / "serve" / name).read_text())
    assert written["http_options"]["host"] == "127.0.0.1" or written["applications"][0]["args"]["keys_file"]


def test_a_key_file_that_is_not_there_is_said_before_anything_is_deployed():
    with pytest.raises(UserError, match="does not exist"):
        build(ServeArgs(keys_file="/nowhere/keys"))


def test_behind_haproxy_keys_are_wanted(monkeypatch):
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "1")
    with pytest.raises(UserError, match="cannot see who asks"):
        build(ServeArgs())
    assert build(ServeArgs(host="127.0.0.1")) is not None


def test_a_gpu_for_searches_goes_to_the_shards():
    search = Resources(gpus=0.5, pool="serve")
    with pytest.raises(UserError, match="search_shards must be 1 or more"):
        build(ServeArgs(host="127.0.0.1", search=search))
    application = build(ServeArgs(host="127.0.0.1", search=search, search_shards=1))
    [shard] = application._bound_deployment.init_args[2]
    assert shard._bound_deployment.ray_actor_options["num_gpus"] == 0.5
    assert shard._bound_deployment.init_args == (0, 1, "cuda")


def test_the_dashboard_asks_for_metrics_that_there_are(repository):
    source = (repository / "platform/reasonembed/distributed/serving_metrics.py").read_text()
    there = set(re.findall(r'"([a-z_]+)", (?:description=)?"', source)) | set(re.findall(r'PREFIX\}([a-z_]+)"', source))
    asked = set(re.findall(r"ray_reasonembed_([a-z_]+)", (repository / "serve" / "grafana.json").read_text()))
    assert {re.sub(r"_(count|sum|bucket|total)$", "", name) for name in asked} <= there
    assert len(asked) > 8
