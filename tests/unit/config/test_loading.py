import pytest

from reasonembed.config import load_config
from reasonembed.errors import UserError


def write_config_file(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return path


def test_arguments_precede_the_environment_and_that_precedes_the_file(tmp_path):
    path = write_config_file(tmp_path, "run: {root: from-file, seed: 1}\nmine: {keep: 5}\n")
    env = {"REASONEMBED_RUN__ROOT": "from-environment", "REASONEMBED_MINE__KEEP": "6", "OTHER": "x"}
    config = load_config(path, ["mine.keep=7", "corpus.tasks=[a, b]"], env)
    assert config.run.root == "from-environment"
    assert config.run.seed == 1
    assert config.mine.keep == 7
    assert config.corpus.tasks == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("mine: {kep: 5}", [], "unknown key 'mine.kep'; known keys: keep, lexical_weight, models, near_duplicate"),
        ("cluster: {train: {gpuz: 1}}", [], "unknown key 'cluster.train.gpuz'; known keys: cpus, gpus, pool"),
        ("cluster: {profile: big}", [], "cluster.profile: input should be 'laptop', 'single-gpu' or 'gpu-cluster'"),
        ("cluster: {train: 8}", [], "cluster.train: input should be a valid dictionary"),
        ("minne: {keep: 5}", [], "unknown key 'minne'"),
        ("mine: {keep: many}", [], "mine.keep: input should be a valid integer"),
        ("", ["train.steps=x"], "train.steps"),
        ("", ["train.steps"], "not of the form section.key=value"),
        ("", ["steps=3"], "must name one section and one key"),
        ("", ["mine.keep=[1"], "not valid YAML"),
        ("mine: 3", ["mine.keep=1"], "section 'mine' of the config file is not a mapping"),
        ("a: [1", [], "not valid YAML"),
        ("- a", [], "must contain sections"),
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
def test_bad_input_is_one_line_that_names_the_key(tmp_path, text, overrides, message):
    with pytest.raises(UserError) as raised:
        load_config(write_config_file(tmp_path, text), overrides, env={})
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_error_names_a_bad_environment_variable(tmp_path):
    with pytest.raises(UserError, match="environment variable REASONEMBED_MINE must name one section and one key"):
        load_config(write_config_file(tmp_path, ""), env={"REASONEMBED_MINE": "5"})


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        load_config(tmp_path / "none.yaml", env={})


def test_all_configs_in_the_repository_load(repository):
    paths = sorted((repository / "jobs" / "configs").glob("*.yaml"))
    assert {path.stem for path in paths} >= {"quickstart", "remixer-vllm", "remixer-http", "reasonembed-qwen3-4b"}
    for path in paths:
        load_config(path, env={})
