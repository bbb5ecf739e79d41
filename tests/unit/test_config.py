from pathlib import Path

import pytest

from reasonembed.config import Config, Sampling, load_config
from reasonembed.errors import UserError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return path


def test_file_then_environment_then_arguments(tmp_path):
    path = write(tmp_path, "run: {root: from-file, seed: 1}\nmine: {keep: 5}\n")
    env = {"REASONEMBED_RUN__ROOT": "from-environment", "REASONEMBED_MINE__KEEP": "6", "OTHER": "x"}
    config = load_config(path, ["mine.keep=7", "corpus.tasks=[a, b]"], env)
    assert config.run.root == "from-environment"
    assert config.run.seed == 1
    assert config.mine.keep == 7
    assert config.corpus.tasks == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "overrides", "says"),
    [
        ("mine: {kep: 5}", [], "unknown key 'mine.kep'; known here: keep, lexical_weight, models, near_duplicate"),
        (
            "cluster: {train: {gpuz: 1}}",
            [],
            "unknown key 'cluster.train.gpuz'; known here: cpus, gpus, pool",
        ),
        ("cluster: {profile: big}", [], "cluster.profile: input should be 'laptop', 'single-gpu' or 'gpu-cluster'"),
        ("cluster: {train: 8}", [], "cluster.train: input should be a valid dictionary"),
        ("minne: {keep: 5}", [], "unknown key 'minne'"),
        ("mine: {keep: many}", [], "mine.keep: input should be a valid integer"),
        ("", ["train.steps=x"], "train.steps"),
        ("", ["train.steps"], "not of the form section.key=value"),
        ("", ["steps=3"], "must name one section and one key"),
        ("", ["mine.keep=[1"], "not valid YAML"),
        ("a: [1", [], "not valid YAML"),
        ("- a", [], "must hold sections"),
        ("mine: 3", [], "mine"),
        ("llm: {engine: vllm}", [], "llm.model is needed by llm.engine vllm"),
        ("llm: {engine: http, model: m}", [], "llm.url is needed by llm.engine http"),
        ("llm: {actors: [3, 1]}", [], "llm.actors must be [least, most]"),
        ("clean: {enabled: true}", [], "clean.enabled needs a language model"),
        (
            "train: {batch_size: 3, workers: 2, zero_stage: 2}",
            [],
            "train.batch_size (3) must be a multiple of train.workers (2)",
        ),
    ],
)
def test_bad_input_is_one_line_that_names_the_key(tmp_path, text, overrides, says):
    with pytest.raises(UserError) as caught:
        load_config(write(tmp_path, text), overrides, env={})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_profile_fills_in_what_is_not_said(tmp_path):
    place = tmp_path / "config.yaml"
    place.write_text("cluster: {profile: gpu-cluster, llm: {gpus: 0, cpus: 4}}")
    cluster = load_config(place, ["cluster.train={pool: mine}"], {}).cluster
    assert (cluster.llm.device, cluster.llm.cpus, cluster.llm.pool) == ("cpu", 4, "gpu-spot")
    assert (cluster.train.device, cluster.train.gpus, cluster.train.labels) == ("cuda", 1, {"ray-subcluster": "mine"})
    assert cluster.data.options == {"num_cpus": 1, "num_gpus": None, "label_selector": {"ray-subcluster": "cpu"}}


def test_without_a_profile_nothing_asks_for_a_gpu_or_a_pool(tmp_path):
    cluster = Config().cluster
    for work in ("data", "encode", "llm", "train", "serve"):
        place = getattr(cluster, work)
        assert place.device == "cpu"
        assert not place.labels


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        load_config(tmp_path / "none.yaml", env={})


def test_every_field_is_documented_or_speaks_for_itself():
    undocumented = {
        f"{name}.{key}"
        for name, section in Config.model_fields.items()
        for key, field in section.annotation.model_fields.items()
        # A stage of ReMixer may have its own default of a field that Sampling documents.
        if not field.description and not (key in Sampling.model_fields and issubclass(section.annotation, Sampling))
    }
    assert undocumented <= {
        "train.learning_rate",
        "train.weight_decay",
        "train.max_grad_norm",
        "index.kind",
        "serve.host",
        "serve.port",
    }


def test_shipped_configs_load(repository):
    for path in (repository / "jobs/configs").glob("*.yaml"):
        load_config(path, env={})


def test_every_config_that_is_shipped_loads(repository):
    paths = sorted((repository / "jobs" / "configs").glob("*.yaml"))
    assert {path.stem for path in paths} >= {"quickstart", "remixer-vllm", "remixer-http", "reasonembed-qwen3-4b"}
    for path in paths:
        load_config(path, env={})
