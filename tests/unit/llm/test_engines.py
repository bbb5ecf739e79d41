"""What the platform knows of each engine without importing it."""

import pytest

from reasonembed.config import Config, Llm, Resources, Run, Sampling
from reasonembed.embedder.model_source import model_fingerprint
from reasonembed.llm.engines import ENGINES, engine_of


def settings(engine, **values):
    return Llm.model_validate({"engine": engine, "model": "maker/model", "url": "http://x", **values})


def test_every_engine_of_the_configuration_has_a_specification():
    for name in ("extractive", "vllm", "http"):
        assert engine_of(settings(name)).name == name
    assert set(ENGINES) == {"extractive", "vllm", "http"}


@pytest.mark.parametrize(("engine", "attempts"), [("extractive", 1), ("vllm", 4), ("http", 4)])
def test_only_a_language_model_is_asked_again(engine, attempts):
    llm = settings(engine, retries=3)
    assert engine_of(llm).attempts(llm) == attempts
    assert engine_of(llm).is_language_model == (attempts > 1)


@pytest.mark.parametrize(("engine", "workers"), [("extractive", (5, 5)), ("http", (5, 5)), ("vllm", (2, 3))])
def test_the_workers_of_a_pool(engine, workers):
    llm, run = settings(engine, actors=[2, 3]), Run(actors=5)
    spec = engine_of(llm)
    assert (spec.min_workers(llm, run), spec.workers(llm, run)) == workers


@pytest.mark.parametrize(
    ("engine", "rows", "batches", "block_rows"),
    [
        ("extractive", 256, 4, 256),
        ("vllm", 256, 4, 32),
        ("http", 256, 4, 32),
        ("http", 100, 3, 16),
        ("vllm", 4, 4, 1),
    ],
)
def test_the_batches_of_a_language_model_hold_half_of_a_block_together(engine, rows, batches, block_rows):
    llm = settings(engine, concurrent_batches=batches)
    assert engine_of(llm).block_rows(llm, Run(rows_per_block=rows)) == block_rows


@pytest.mark.parametrize(
    ("engine", "gpus", "tensor_parallel", "gpus_per_engine"),
    [("vllm", 1, 4, 4), ("vllm", 0, 4, 0), ("http", 1, 4, 0), ("extractive", 1, 4, 0)],
)
def test_an_engine_takes_as_many_gpus_as_share_its_model(engine, gpus, tensor_parallel, gpus_per_engine):
    llm = settings(engine, tensor_parallel=tensor_parallel)
    assert engine_of(llm).gpus(llm, Resources(gpus=gpus)) == gpus_per_engine


def test_only_vllm_needs_the_resources_of_an_engine():
    cluster = Config.model_validate({"cluster": {"profile": "gpu-cluster"}}).cluster
    assert ENGINES["vllm"].resources(cluster) == Resources(gpus=1, pool="gpu-spot")
    assert ENGINES["http"].resources(cluster) is None
    assert ENGINES["extractive"].resources(cluster) is None


def test_a_stage_may_name_a_model_of_its_own():
    for engine in ("vllm", "http"):
        llm = settings(engine)
        assert engine_of(llm).model(llm, Sampling()) == "maker/model"
        assert engine_of(llm).model(llm, Sampling(model="maker/other")) == "maker/other"
    assert ENGINES["extractive"].model(settings("extractive"), Sampling(model="maker/other")) == ""


@pytest.mark.parametrize(
    ("engine", "model", "lora", "label"),
    [
        ("vllm", "maker/model", None, "maker/model"),
        ("http", "gpt-4", None, "gpt-4"),
        ("vllm", "/data/models/mine", None, "mine"),
        ("vllm", "./models/mine/", None, "mine"),
        ("vllm", "maker/model/", "maker/adapter/", "maker/model+maker/adapter"),
        ("http", "gpt-4/", None, "gpt-4"),
        ("vllm", "~/mine", None, "mine"),
        ("vllm", "maker/model", "maker/adapter", "maker/model+maker/adapter"),
        ("vllm", "/data/mine", "/data/adapters/law", "mine+law"),
        ("extractive", "maker/model", None, "extractive"),
    ],
)
def test_the_label_of_a_folder_is_the_same_on_every_machine(engine, model, lora, label):
    assert ENGINES[engine].label(settings(engine), Sampling(model=model, lora=lora)) == label


def test_vllm_identifies_a_folder_by_its_content(tmp_path):
    vllm = ENGINES["vllm"]
    assert vllm.model_identity("maker/model") == "maker/model"
    identities = []
    for name, content in (("a", "{}"), ("b", "{}"), ("c", '{"x": 1}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(content)
        identities.append(vllm.model_identity(str(tmp_path / name)))
    assert identities[0] == identities[1] == model_fingerprint(str(tmp_path / "a"))
    assert identities[2] != identities[0]


def test_http_identifies_a_model_by_its_name_at_the_server(tmp_path):
    assert ENGINES["http"].model_identity(str(tmp_path)) == str(tmp_path)


@pytest.mark.parametrize("engine", ["vllm", "http"])
def test_a_slash_at_the_end_of_a_name_makes_no_other_model(engine, tmp_path):
    spec = ENGINES[engine]
    for name in ("maker/model", str(tmp_path)):
        identities = {
            spec.model_identity(spec.model(settings(engine), Sampling(model=model))) for model in (name, f"{name}/")
        }
        assert len(identities) == 1
    assert spec.adapter(Sampling(lora="maker/adapter/")) == "maker/adapter"
    assert spec.adapter(Sampling()) is None


def test_a_server_gets_the_name_as_it_is_configured():
    llm = settings("http")
    assert ENGINES["http"].model(llm, Sampling(model="/models/mine/")) == "/models/mine/"
    assert ENGINES["vllm"].model(llm, Sampling(model="/models/mine/")) == "/models/mine"
