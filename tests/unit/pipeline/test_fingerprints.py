"""Each setting changes the fingerprints of exactly the stages that its mark names, and of those that read them."""

from typing import Any, get_args

import pytest
from annotated_types import Gt, Interval, Le, Lt
from factories import write_bright

from reasonembed.config import Config, Resources
from reasonembed.config.section import Section, affects
from reasonembed.pipeline.corpus_stages import embeddings_of, named_model, own_corpus
from reasonembed.pipeline.pipeline import STAGES, Pipeline
from reasonembed.pipeline.ranking_stages import ranking_step
from reasonembed.pipeline.stage import Step

LLM = {"clean", "generate", "rewrite", "annotate"}
# Stages that read the settings of a section, for fields that carry no mark with stages of its own.
READERS = {
    "run": LLM | {"batches", "train", "index", "evaluate"},
    "llm": LLM,
    "clean": {"clean"},
    "generate": {"generate"},
    "rewrite": {"rewrite"},
    "mine": {"mine"},
    "annotate": {"annotate"},
    "assemble": {"assemble"},
    "train": {"batches", "train"},
    "encode": {"encode", "index", "rank"},
    "index": {"index"},
    "evaluate": {"evaluate"},
}
EXCEPTIONS = {
    "generate.min_chars": {"clean", "generate"},
    "generate.max_chars": {"clean", "generate"},
    "rewrite.feedback_docs": {"rewrite", "annotate"},
    "encode.instruct": {"train", "index", "rank"},
    "encode.pooling": {"encode", "train", "index", "rank"},
}
# Settings that name an input, with the stages that read the input. The others choose what a job asks for.
INPUTS = {
    "corpus.tasks": {"corpus", "questions"},
    "llm.model": LLM,
    "clean.model": {"clean"},
    "clean.lora": {"clean"},
    "clean.enabled": {"generate"},
    "generate.model": {"generate"},
    "generate.lora": {"generate"},
    "rewrite.model": {"rewrite"},
    "rewrite.lora": {"rewrite"},
    "annotate.model": {"annotate"},
    "annotate.lora": {"annotate"},
    "mine.models": {"mine"},
    "generate.protect": {"clean", "generate"},
    "index.model": {"index"},
    "evaluate.benchmark": {"clean", "generate", "rank", "evaluate"},
    "evaluate.tasks": {"rank", "evaluate"},
    "evaluate.queries": {"rank", "evaluate"},
    "evaluate.baseline": {"evaluate"},
}
# A model trained on another kind of device is another model.
DEVICES = {"cluster.profile": {"train"}}
# Values that satisfy the checks between settings, where a changed copy of the default does not.
VALUES: dict[str, Any] = {
    "cluster.profile": "single-gpu",
    "assemble.shapes": {},
    "corpus.tasks": ["nature"],
    "evaluate.tasks": ["nature"],
    "evaluate.queries": "rewritten",
    "mine.models": ["base", "base"],
    "train.engine": "torch",
    "train.shapes": {"nature": (2, 32)},
    "train.lora_targets": ["q_proj"],
    "train.matryoshka_dims": [16],
    "train.min_workers": 1,
    "train.workers": 1,
    "index.model": "base",
    "evaluate.baseline": "bm25",
    "evaluate.fusion_weights": [0.5],
    "llm.actors": [1, 2],
}
# They choose other inputs only with files that these tests do not make.
SKIPPED = {"corpus.source", "train.base_model", "train.data", "evaluate.run", "evaluate.qrels", "evaluate.split"}


@pytest.fixture(scope="module")
def other_benchmark(tmp_path_factory):
    return f"bright:{write_bright(tmp_path_factory.mktemp('other') / 'benchmark', documents_per_topic=8)}"


@pytest.fixture(scope="module", autouse=True)
def benchmark_values(other_benchmark):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(VALUES, "generate.protect", [other_benchmark])
        patch.setitem(VALUES, "evaluate.benchmark", other_benchmark)
        yield


@pytest.fixture(scope="module")
def settings(tiny_corpus, tiny_model, tmp_path_factory):
    return {
        "run": {"root": str(tmp_path_factory.mktemp("runs"))},
        "corpus": {"source": f"bright:{tiny_corpus}"},
        "clean": {"enabled": True},
        "llm": {"engine": "vllm", "model": "maker/model"},
        "train": {"base_model": str(tiny_model), "zero_stage": 0},
    }


@pytest.fixture(scope="module")
def extractive(settings):
    return settings | {"clean": {}, "llm": {"engine": "extractive"}}


def steps_of(values: dict[str, Any]) -> dict[str, Step]:
    """One step of every stage."""
    pipeline = Pipeline(Config.model_validate(values), backend=None)
    corpus = own_corpus(pipeline)
    model = named_model(pipeline, "base")
    ranking = ranking_step(pipeline, "trained")
    special = {
        "encode": lambda stage: embeddings_of(pipeline, corpus, model),
        "rank": lambda stage: ranking,
        "evaluate": lambda stage: pipeline.step(stage, "trained"),
    }
    names = [stage for stage in STAGES if stage.name not in ("training_data", *skipped_stages(values))]
    return {stage.name: special.get(stage.name, pipeline.step)(stage) for stage in names}


def skipped_stages(values: dict[str, Any]) -> tuple[str, ...]:
    return () if values["llm"]["engine"] != "extractive" else ("clean",)


def fingerprints(values: dict[str, Any]) -> dict[str, str]:
    return {name: step.fingerprint for name, step in steps_of(values).items()}


def with_readers(first: set[str], steps: dict[str, Step]) -> set[str]:
    """The stages, and all that read their artifacts directly or through others."""

    def reads(step: Step) -> bool:
        sources = [source for source in step.inputs.values() if isinstance(source, Step)]
        return step.stage.name in first or any(reads(source) for source in sources)

    return {name for name, step in steps.items() if reads(step)}


def another(section: type[Section], name: str, value: Any) -> Any:
    """A valid value that differs from the current one."""
    field = section.model_fields[name]
    choices = [choice for choice in get_args(field.annotation) if isinstance(choice, str | int) and choice != value]
    if choices:
        return choices[0]
    bounded = any(isinstance(entry, Le | Lt | Interval) for entry in field.metadata)
    is_number = "float" in str(field.annotation) or any(isinstance(entry, Gt) for entry in field.metadata)
    changes = {
        bool: lambda: not value,
        int: lambda: value + 1,
        float: lambda: value / 2 if value and bounded else value + 0.5,
        str: lambda: f"{value}-other",
        dict: lambda: value | {"key": "value"},
        list: lambda: [*value, "other"],
        type(None): lambda: 2.0 if is_number else 7 if "int" in str(field.annotation) else "other",
    }
    return changes[type(value)]()


def all_settings() -> list[str]:
    return [
        f"{name}.{field}"
        for name, info in Config.model_fields.items()
        for field in info.annotation.model_fields
        if f"{name}.{field}" not in SKIPPED
    ]


def changed_stages(values: dict[str, Any], setting: str) -> set[str]:
    name, field = setting.split(".")
    section = getattr(Config.model_validate(values), name)
    value = getattr(section, field)
    if isinstance(value, Resources):
        changed: Any = value.model_dump() | {"cpus": value.cpus + 1}
    else:
        changed = VALUES[setting] if setting in VALUES else another(type(section), field, value)
    before = fingerprints(values)
    after = fingerprints(values | {name: values.get(name, {}) | {field: changed}})
    return {stage for stage in before if before[stage] != after.get(stage)}


def expected_stages(values: dict[str, Any], setting: str) -> set[str]:
    name, field = setting.split(".")
    steps = steps_of(values)
    mark = affects(type(getattr(Config(), name)), field)
    if mark.kind in ("resources", "display"):
        return with_readers(DEVICES.get(setting, set()), steps)
    if mark.kind == "input":
        return with_readers(INPUTS.get(setting, set()), steps)
    engine = values["llm"]["engine"]
    if (mark.engines and engine not in mark.engines) or engine in mark.except_engines:
        return set()
    return with_readers(EXCEPTIONS.get(setting) or set(mark.stages) or READERS.get(name, set()), steps)


@pytest.mark.parametrize("setting", all_settings())
def test_a_setting_changes_the_stages_that_its_mark_names(settings, setting):
    if setting == "llm.engine":
        return  # the next tests compare the engines
    assert changed_stages(settings, setting) == expected_stages(settings, setting)


@pytest.mark.parametrize(
    "setting",
    [s for s in all_settings() if s.split(".")[0] in ("llm", "generate", "rewrite", "annotate") and s != "llm.engine"],
)
def test_without_a_language_model_its_settings_change_nothing(extractive, setting):
    expected = set() if setting.endswith((".model", ".lora")) else expected_stages(extractive, setting)
    assert changed_stages(extractive, setting) == expected


def test_another_engine_is_another_writer(settings):
    before = fingerprints(settings)
    after = fingerprints(settings | {"llm": {"engine": "http", "model": "maker/model", "url": "http://x"}})
    assert {name for name in before if before[name] != after[name]} == with_readers(LLM, steps_of(settings))


@pytest.mark.parametrize(
    ("key", "value", "counts"),
    [
        ("gpu_memory_utilization", 0.5, False),
        ("max_num_seqs", 8, False),
        ("max_model_len", 4096, False),
        ("kv_offloading_size", 4.0, False),
        ("trust_remote_code", True, False),
        ("tensor_parallel_size", 2, False),
        ("quantization", "fp8", True),
        ("kv_cache_dtype", "fp8", True),
        ("load_format", "dummy", True),
    ],
)
def test_an_engine_argument_for_memory_or_speed_buys_no_row_again(settings, key, value, counts):
    changed = settings | {"llm": settings["llm"] | {"engine_kwargs": {key: value}}}
    assert (fingerprints(settings) != fingerprints(changed)) == counts


@pytest.mark.parametrize(
    "changed",
    [
        {"llm": {"model": "maker/model/"}},
        {"llm": {"max_model_len": 4096}},
        {"llm": {"trust_remote_code": True}},
        {"annotate": {"lora": "maker/adapter/"}},
        {"annotate": {"model": "maker/other/"}},
    ],
)
@pytest.mark.parametrize("engine", [{"engine": "vllm"}, {"engine": "http", "url": "http://server"}])
def test_neither_a_slash_at_the_end_of_a_name_nor_a_limit_buys_a_row_again(settings, engine, changed):
    values = {
        **settings,
        "llm": settings["llm"] | engine,
        "annotate": {"lora": "maker/adapter", "model": "maker/other"},
    }
    again = values | {name: values[name] | section for name, section in changed.items()}
    assert fingerprints(again) == fingerprints(values)


def test_a_slash_at_the_end_of_the_url_buys_no_row_again(settings):
    llm = settings["llm"] | {"engine": "http", "url": "http://server"}
    assert fingerprints(settings | {"llm": llm}) == fingerprints(settings | {"llm": llm | {"url": "http://server/"}})


def test_each_prompt_counts_for_its_own_stage(settings, monkeypatch):
    from dataclasses import replace

    from reasonembed.remixer.annotate import AnnotateTask

    before = fingerprints(settings)
    prompt = AnnotateTask.prompt
    monkeypatch.setattr(AnnotateTask, "prompt", replace(prompt, system=prompt.system + "Be strict.\n"))
    after = fingerprints(settings)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == with_readers({"annotate"}, steps_of(settings))
    assert not changed & {"clean", "generate", "rewrite", "mine"}


def test_dropout_makes_the_number_of_workers_count(settings):
    def with_train(**values):
        return fingerprints(settings | {"train": settings["train"] | values})["train"]

    assert with_train(workers=1) == with_train(workers=2)
    assert with_train(workers=1, lora_dropout=0.1) != with_train(workers=2, lora_dropout=0.1)
    assert with_train(checkpoint_steps=5) == with_train(checkpoint_steps=6)
    assert with_train(checkpoint_steps=5, dev_queries=2) != with_train(checkpoint_steps=6, dev_queries=2)


def test_marks_name_stages_that_exist():
    names = {stage.name for stage in STAGES}
    for section in (info.annotation for info in Config.model_fields.values()):
        for field in section.model_fields:
            assert set(affects(section, field).stages) <= names


def test_a_field_without_a_mark_affects_rows():
    class Example(Section):
        value: int = 1

    assert affects(Example, "value").kind == "rows"
    assert not affects(Example, "value").stages
