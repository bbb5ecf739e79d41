"""Default resources of a process; that work runs there is tested with Ray in ``tests/engines/test_annotation.py``."""

import pytest

from reasonembed.config import Config, Resources
from reasonembed.distributed import default_resources as module
from reasonembed.distributed.data.datasets import data_context
from reasonembed.distributed.default_resources import default_resources
from reasonembed.distributed.ray_backend import RayBackend


@pytest.fixture(autouse=True)
def _reset(monkeypatch):
    monkeypatch.setattr(module, "_default", Resources())
    yield
    monkeypatch.undo()
    data_context()


def test_without_a_pipeline_they_are_the_defaults_of_the_class():
    assert default_resources() == Resources()


def test_the_backend_of_a_pipeline_sets_them_to_those_of_data_work():
    RayBackend(Config.model_validate({"cluster": {"profile": "gpu-cluster"}}))
    assert default_resources() == Resources(pool="cpu")
    assert data_context().execution_options.label_selector == {"ray-subcluster": "cpu"}
    assert data_context(Resources(pool="mine")).execution_options.label_selector == {"ray-subcluster": "mine"}
    assert data_context(Resources()).execution_options.label_selector is None
