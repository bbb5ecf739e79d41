"""The line before a stage that is paid for again: what differs, and how many calls it will be."""

import json

import pytest

from reasonembed import artifacts, storage
from reasonembed.artifacts import Artifact, Identity
from reasonembed.config import Config
from reasonembed.pipeline.changes import changes_of_paid_stage, describe_changes
from reasonembed.pipeline.pipeline import Pipeline
from reasonembed.pipeline.stage import Stage

HASH, OTHER_HASH = "0123456789abcdef", "fedcba9876543210"
SETTINGS = {
    "llm": {"engine": "vllm", "constrained": True, "engine_kwargs": {}},
    "annotate": {"temperature": 0.7, "model": None},
}


def source(fingerprint=HASH, rows=None):
    figures = {} if rows is None else {"rows": rows}
    return Artifact("inputs", {"stage": "mine", "fingerprint": fingerprint, "figures": figures})


def identity(version=3, inputs=None, row_settings=SETTINGS):
    inputs = {"candidates": source(), "prompt": HASH} if inputs is None else inputs
    return Identity("annotate", version, "new", row_settings, {}, inputs)


def finished(name, made_from, when="2027-01-01"):
    record = {
        "code_version": made_from.version,
        "row_settings": json.loads(json.dumps(made_from.row_settings)),
        "inputs": {name: artifacts.recorded(value) for name, value in made_from.inputs.items()},
        "finished": when,
    }
    return Artifact(name, record)


def with_setting(section, name, value):
    return SETTINGS | {section: SETTINGS[section] | {name: value}}


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        ({"row_settings": with_setting("annotate", "temperature", 0.2)}, "annotate.temperature 0.7 → 0.2"),
        ({"row_settings": with_setting("annotate", "model", "maker/m")}, "annotate.model null → maker/m"),
        (
            {"row_settings": with_setting("llm", "engine_kwargs", {"quantization": "fp8"})},
            "llm.engine_kwargs.quantization none → fp8; llm.engine_kwargs {} → none",
        ),
        ({"inputs": {"candidates": source(), "prompt": OTHER_HASH}}, "input prompt 01234567 → fedcba98"),
        ({"inputs": {"candidates": source(OTHER_HASH), "prompt": HASH}}, "input candidates 01234567 → fedcba98"),
        ({"inputs": {"candidates": source(), "prompt": HASH, "lora": "maker/l"}}, "input lora none → maker/l"),
        ({"inputs": {"candidates": source()}}, "input prompt 01234567 → none"),
        ({"version": 4}, "code version 3 → 4"),
        (
            {"version": 4, "row_settings": with_setting("annotate", "temperature", 0.2)},
            "code version 3 → 4; annotate.temperature 0.7 → 0.2",
        ),
    ],
)
def test_the_names_that_differ_are_given_with_both_values(changed, difference):
    line = describe_changes(identity(**changed), [finished("old", identity())])
    assert line == f"differs from old in {difference}; its calls are paid anew"


def test_of_many_differences_the_first_are_shown():
    names = [f"name{n}" for n in range(10)]
    old, new = ({"annotate": dict.fromkeys(names, value)} for value in (1, 2))
    line = describe_changes(identity(row_settings=new), [finished("old", identity(row_settings=old))])
    shown = "; ".join(f"annotate.name{n} 1 → 2" for n in range(8))
    assert line == f"differs from old in {shown}; 2 more; its calls are paid anew"


def test_long_values_are_shortened_in_the_middle():
    changed = with_setting("annotate", "model", "/models/" + "long/" * 20 + "the-model")
    line = describe_changes(identity(row_settings=changed), [finished("old", identity())])
    assert "annotate.model null → /models/long/lon…g/long/the-model;" in line


def test_the_most_similar_artifact_is_compared_and_of_several_the_newest():
    current = identity(row_settings=with_setting("annotate", "temperature", 0.2))
    other_prompt = finished("two", identity(inputs={"candidates": source(), "prompt": OTHER_HASH}), "2027-03-01")
    assert describe_changes(current, [other_prompt, finished("one", identity())]).startswith("differs from one in")
    old, new = finished("old", identity(), "2027-01-01"), finished("new", identity(), "2027-01-02")
    for order in ([old, new], [new, old]):
        assert describe_changes(current, order).startswith("differs from new in")


def test_artifacts_of_other_inputs_are_not_compared():
    questions = identity(inputs={"questions": source(), "prompt": OTHER_HASH})
    assert describe_changes(questions, [finished("old", identity())]) is None
    assert describe_changes(identity(), []) is None


@pytest.mark.parametrize(
    ("inputs", "generate", "cost"),
    [
        (
            {"queries": source(rows=7), "corpus": source(rows=9), "candidates": source(rows=1234)},
            {},
            "up to 1,234 calls",
        ),
        ({"corpus": source(rows=9), "queries": source(rows=7)}, {}, "up to 7 calls"),
        ({"questions": source(rows=5)}, {}, "up to 5 calls"),
        ({"corpus": source(rows=900)}, {"max_queries": 100}, "up to 100 calls"),
        ({"corpus": source(rows=90)}, {"max_queries": 100}, "up to 90 calls"),
        ({"corpus": source()}, {}, "its calls"),
        ({"other": source(rows=5)}, {}, "its calls"),
    ],
)
def test_the_calls_are_the_rows_that_the_stage_asks_about(inputs, generate, cost):
    old = identity(inputs=inputs, row_settings=SETTINGS | {"generate": generate})
    line = describe_changes(identity(4, inputs, SETTINGS | {"generate": generate}), [finished("old", old)])
    assert line == f"differs from old in code version 3 → 4; {cost} are paid anew"


@pytest.mark.parametrize("row_settings", [{}, {"llm": {"engine": "extractive"}}])
def test_a_stage_without_a_language_model_costs_nothing(row_settings, tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "finished", lambda root, stage: [finished("old", identity())])
    assert changes_of_paid_stage(str(tmp_path), identity(row_settings=row_settings)) is None
    assert changes_of_paid_stage(str(tmp_path), identity(version=4)) is not None


def write_file(build):
    storage.write_bytes(storage.join(build.uri, "rows.txt"), b"x")
    return {"rows": 12}


def test_the_pipeline_announces_it_before_the_stage_starts(tmp_path):
    corpus = Stage("corpus", 1, lambda pipeline: {}, write_file)
    stage = Stage("annotate", 1, lambda pipeline: {"corpus": pipeline.step(corpus)}, write_file, ("llm", "annotate"))

    def run(temperature):
        lines = []
        values = {
            "run": {"root": str(tmp_path)},
            "llm": {"engine": "http", "model": "m", "url": "http://server"},
            "annotate": {"temperature": temperature},
        }
        Pipeline(Config.model_validate(values), None, lines.append).run(stage)
        return [line for line in lines if line.startswith("annotate: ")]

    first = run(0.7)
    assert first[0] == "annotate: starting"
    [again] = run(0.7)
    assert again.startswith("annotate: done before")
    changes, starting, _ = run(0.2)
    assert changes.startswith(f"annotate: differs from {tmp_path}/annotate/")
    assert changes.endswith(" in annotate.temperature 0.7 → 0.2; up to 12 calls are paid anew")
    assert starting == "annotate: starting"
