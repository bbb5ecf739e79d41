"""Base class of every configuration section, and marks that define what a setting affects.

A stage's fingerprint is a hash of the settings that affect its rows. Each field is marked where it is declared::

    actors: Annotated[int, RESOURCES] = 2

A field without a mark affects rows. This default is safe: a new setting can cause work to be repeated, but a stage
never reuses rows that were made with another value.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True)
class Affects:
    """What a setting affects.

    Args:
        kind: ``rows``: the rows of the stages that read the section. ``input``: the setting names an input of a stage
            (a model, a corpus); the content of the input affects the rows, not its name. ``resources``: how the work
            is distributed, limited and retried. ``display``: what is shown or exported.
        stages: names of the stages whose rows are affected; empty means all that read the section.
        engines: values of ``llm.engine`` with which rows are affected; empty means all.
        except_engines: values of ``llm.engine`` with which rows are not affected.
        resource_keys: keys that affect only resources, if the setting is a mapping.
    """

    kind: Literal["rows", "input", "resources", "display"] = "rows"
    stages: tuple[str, ...] = ()
    engines: tuple[str, ...] = ()
    except_engines: tuple[str, ...] = ()
    resource_keys: frozenset[str] = frozenset()


ROWS, INPUT, RESOURCES, DISPLAY = Affects("rows"), Affects("input"), Affects("resources"), Affects("display")
LANGUAGE_MODEL = Affects(except_engines=("extractive",))
EXTRACTIVE = Affects(engines=("extractive",))


class Section(BaseModel):
    """Base class of the configuration's sections: strict and immutable; the docstring of a field is its description."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, coerce_numbers_to_str=True, protected_namespaces=()
    )
    affects: ClassVar[Affects] = ROWS
    """Mark of the fields that have none of their own."""


def affects(section: type[Section], field: str) -> Affects:
    """Returns the mark of a field; a subclass that declares a field again inherits its mark."""
    for owner in section.__mro__:
        if issubclass(owner, Section) and field in owner.model_fields:
            marks = [item for item in owner.model_fields[field].metadata if isinstance(item, Affects)]
            if marks:
                return marks[0]
    return section.affects


def read_settings(config: Section, selectors: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Returns settings as JSON values by section.

    Args:
        config: the whole configuration.
        selectors: sections (``mine``) or single settings of a section (``generate.min_chars``).
    """
    settings: dict[str, dict[str, Any]] = {}
    for selector in selectors:
        name, _, field = selector.partition(".")
        values = getattr(config, name).model_dump(mode="json")
        settings.setdefault(name, {}).update({field: values[field]} if field else values)
    return settings


def row_settings(config: Section, selectors: tuple[str, ...], stage: str, engine: str) -> dict[str, dict[str, Any]]:
    """Returns the settings that affect a stage's rows, as JSON values by section.

    Args:
        config: the whole configuration.
        selectors: settings that the stage reads: sections (``mine``) or single settings (``generate.min_chars``).
        stage: the stage's name.
        engine: ``llm.engine``.
    """
    settings: dict[str, dict[str, Any]] = {}
    for name, values in read_settings(config, selectors).items():
        for field, value in values.items():
            mark = affects(type(getattr(config, name)), field)
            with_engine = _matches(mark.engines, engine) and engine not in mark.except_engines
            if mark.kind == "rows" and _matches(mark.stages, stage) and with_engine:
                settings.setdefault(name, {})[field] = _remove_keys(value, mark.resource_keys)
    return settings


def _matches(names: tuple[str, ...], name: str) -> bool:
    return not names or name in names


def _remove_keys(value: Any, keys: frozenset[str]) -> Any:
    return {key: item for key, item in value.items() if key not in keys} if isinstance(value, Mapping) else value
