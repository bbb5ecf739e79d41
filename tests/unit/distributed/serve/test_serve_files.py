"""``serve/*.yaml`` and ``serve/grafana.json``: Ray Serve accepts them, and they match the application."""

import re

import pytest
import yaml
from key_mutations import misspelt_keys, rejects
from serve_configs import check_serve

from reasonembed.distributed.serve import prometheus_metrics
from reasonembed.distributed.serve.application import build
from reasonembed.distributed.serve.application_args import ServeArgs

FILES = ["local.yaml", "production.yaml", "production-cpu.yaml"]


@pytest.fixture
def load_serve_file(repository):
    return lambda name: yaml.safe_load((repository / "serve" / name).read_text())


@pytest.mark.parametrize("name", FILES)
def test_ray_serve_and_the_application_accept_the_file(load_serve_file, name, monkeypatch):
    monkeypatch.setattr("reasonembed.distributed.serve.application.read_keys", lambda file: True)
    content = load_serve_file(name)
    check_serve(content)
    assert build(ServeArgs.model_validate(content["applications"][0]["args"])) is not None


@pytest.mark.parametrize("name", FILES)
def test_every_misspelt_key_is_rejected(load_serve_file, name):
    content = load_serve_file(name)
    assert not [path for path, mutated in misspelt_keys(content) if not rejects(check_serve, mutated)]


def test_a_minimum_of_replicas_above_the_maximum_is_rejected(load_serve_file):
    content = load_serve_file("production.yaml")
    content["applications"][0]["deployments"][0]["autoscaling_config"]["min_replicas"] = 99
    assert rejects(check_serve, content)


@pytest.mark.parametrize("name", FILES)
def test_an_endpoint_that_other_machines_reach_has_keys(load_serve_file, name):
    content = load_serve_file(name)
    assert content["http_options"]["host"] == "127.0.0.1" or content["applications"][0]["args"]["keys_file"]


def test_the_dashboard_uses_only_metrics_that_exist(repository, monkeypatch):
    exported = set()
    for kind in ("Counter", "Gauge", "Histogram"):
        monkeypatch.setattr(prometheus_metrics, kind, lambda name, **options: exported.add(f"ray_{name}"))
    prometheus_metrics.ServingMetrics()
    used = set(re.findall(r"ray_reasonembed_[a-z_]+", (repository / "serve" / "grafana.json").read_text()))
    assert {re.sub(r"_(count|sum|bucket|total)$", "", name) for name in used} <= exported
    assert len(used) > 8
