"""The marks of settings: what they affect, and which settings of a stage therefore belong to its fingerprint."""

from typing import Annotated, ClassVar

import pytest
from pydantic import ValidationError

from reasonembed.config.section import (
    DISPLAY,
    EXTRACTIVE,
    INPUT,
    LANGUAGE_MODEL,
    RESOURCES,
    ROWS,
    Affects,
    Section,
    affects,
    read_settings,
    row_settings,
)


class Cooking(Section):
    unmarked: int = 1
    model: Annotated[str, INPUT] = "m"
    actors: Annotated[int, RESOURCES] = 2
    color: Annotated[str, DISPLAY] = "red"
    temperature: Annotated[float, LANGUAGE_MODEL] = 0.7
    weight: Annotated[float, EXTRACTIVE] = 0.5
    only_train: Annotated[int, Affects(stages=("train",))] = 3
    arguments: Annotated[dict[str, int], Affects(engines=("vllm",), resource_keys=frozenset({"memory"}))] = {}


class SlowCooking(Cooking):
    actors: int = 9
    temperature: float = 0.1
    unmarked: Annotated[int, RESOURCES] = 1
    more: int = 4


class Machines(Section):
    affects: ClassVar[Affects] = RESOURCES

    cpus: int = 1
    kind: Annotated[str, ROWS] = "fast"


class Whole(Section):
    cooking: Cooking = Cooking(arguments={"memory": 1, "quantization": 2})
    slow: SlowCooking = SlowCooking()
    machines: Machines = Machines()


def kinds(section):
    return {name: affects(section, name).kind for name in section.model_fields}


def test_a_setting_without_a_mark_affects_rows():
    assert affects(Cooking, "unmarked") == ROWS
    assert kinds(Cooking) == {
        "unmarked": "rows",
        "model": "input",
        "actors": "resources",
        "color": "display",
        "temperature": "rows",
        "weight": "rows",
        "only_train": "rows",
        "arguments": "rows",
    }


def test_a_subclass_that_declares_a_setting_again_inherits_its_mark():
    assert affects(SlowCooking, "actors") == RESOURCES
    assert affects(SlowCooking, "temperature") == LANGUAGE_MODEL
    assert affects(SlowCooking, "model") == INPUT
    assert affects(SlowCooking, "more") == ROWS


def test_a_mark_of_a_subclass_replaces_the_inherited_one():
    assert affects(SlowCooking, "unmarked") == RESOURCES


def test_a_section_has_a_mark_for_the_settings_without_one():
    assert kinds(Machines) == {"cpus": "resources", "kind": "rows"}


def test_selectors_are_sections_or_single_settings():
    assert read_settings(Whole(), ("machines",)) == {"machines": {"cpus": 1, "kind": "fast"}}
    assert read_settings(Whole(), ("machines.kind", "slow.more", "slow.actors")) == {
        "machines": {"kind": "fast"},
        "slow": {"more": 4, "actors": 9},
    }
    assert read_settings(Whole(), ()) == {}
    assert read_settings(Whole(), ("cooking.arguments",))["cooking"]["arguments"] == {"memory": 1, "quantization": 2}


def test_only_a_setting_that_exists_can_be_selected():
    with pytest.raises(KeyError):
        read_settings(Whole(), ("machines.memory",))
    with pytest.raises(AttributeError):
        read_settings(Whole(), ("nothing",))


@pytest.mark.parametrize(
    ("stage", "engine", "names"),
    [
        ("cook", "extractive", {"unmarked", "weight"}),
        ("train", "extractive", {"unmarked", "weight", "only_train"}),
        ("cook", "http", {"unmarked", "temperature"}),
        ("cook", "vllm", {"unmarked", "temperature", "arguments"}),
    ],
)
def test_row_settings_depend_on_the_stage_and_the_engine(stage, engine, names):
    assert set(row_settings(Whole(), ("cooking",), stage, engine)["cooking"]) == names


def test_row_settings_leave_out_keys_that_affect_resources_only():
    rows = row_settings(Whole(), ("cooking.arguments", "machines"), "cook", "vllm")
    assert rows == {"cooking": {"arguments": {"quantization": 2}}, "machines": {"kind": "fast"}}


def test_a_section_without_row_settings_is_left_out():
    assert row_settings(Whole(), ("machines.cpus",), "cook", "vllm") == {}


def test_a_section_is_strict_and_immutable():
    with pytest.raises(ValidationError):
        Machines(memory=1)
    with pytest.raises(ValidationError):
        Machines().cpus = 2
