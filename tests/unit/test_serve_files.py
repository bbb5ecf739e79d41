"""``serve/*.yaml``: Ray Serve takes them, and so does the application."""

import re

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from reasonembed.distributed.serving import Changeable, ServeArgs, build
from reasonembed.errors import UserError

FILES = ["local.yaml", "production.yaml", "production-cpu.yaml"]


@pytest.mark.parametrize("name", FILES)
def test_files_are_valid_and_name_deployments_that_there_are(repository, name, monkeypatch):
    monkeypatch.setattr("reasonembed.distributed.serving.read_keys", lambda file: True)
    written = yaml.safe_load((repository / "serve" / name).read_text())
    [application] = ServeDeploySchema.model_validate(written).applications
    args = ServeArgs.model_validate(application.args)
    assert application.import_path == "serve.app:build"
    there = {"gateway", "encoder", *(f"shard-{n}" for n in range(args.search_shards))}
    for deployment in application.deployments:
        assert deployment.name in there
        if deployment.name == "gateway":
            Changeable.model_validate(deployment.user_config)
    assert build(args) is not None
    with pytest.raises(ValueError, match="runroot"):
        ServeArgs.model_validate({**application.args, "runroot": "x"})


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


def test_the_dashboard_asks_for_metrics_that_there_are(repository):
    source = (repository / "platform/reasonembed/distributed/serving_metrics.py").read_text()
    there = set(re.findall(r'"([a-z_]+)", (?:description=)?"', source)) | set(re.findall(r'PREFIX\}([a-z_]+)"', source))
    asked = set(re.findall(r"ray_reasonembed_([a-z_]+)", (repository / "serve" / "grafana.json").read_text()))
    assert {re.sub(r"_(count|sum|bucket|total)$", "", name) for name in asked} <= there
    assert len(asked) > 8
