"""Reading of a configuration from a YAML file, the environment and ``section.key=value`` arguments.

Environment variables override the file, and arguments override both. An environment variable is named
``REASONEMBED_<SECTION>__<KEY>`` (``REASONEMBED_RUN__ROOT=s3://bucket/prefix``). Values from the environment and from
arguments are read as YAML, so ``[a, b]`` is a list, ``true`` a boolean and ``3`` a number.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from reasonembed.config.sections import Config
from reasonembed.errors import UserError

ENV_PREFIX = "REASONEMBED_"


def load_config(path: str | Path, overrides: Sequence[str] = (), env: Mapping[str, str] | None = None) -> Config:
    """Returns the validated configuration of a YAML file, with the environment's and the arguments' values.

    Args:
        path: of the YAML file.
        overrides: ``section.key=value`` strings.
        env: environment variables by name; ``os.environ`` when left out.

    Raises:
        UserError: the file is missing or not YAML, a key is unknown, or a value has the wrong type.
    """
    values = _read_yaml(Path(path))
    for name, text in sorted((os.environ if env is None else env).items()):
        if name.startswith(ENV_PREFIX):
            keys = name[len(ENV_PREFIX) :].lower().split("__")
            _set_value(values, keys, text, origin=f"environment variable {name}")
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise UserError(f"argument {override!r} is not of the form section.key=value")
        _set_value(values, key.split("."), text, origin=f"argument {override!r}")
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise UserError(f"config {path}: {_first_error(error)}") from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"config file {path} does not exist; examples are in jobs/configs/") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"config file {path} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise UserError(f"config file {path} is not valid YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"config file {path} must contain sections (a mapping), not a {type(values).__name__}")
    return values


def _set_value(values: dict[str, Any], keys: list[str], text: str, origin: str) -> None:
    if len(keys) != 2 or not all(keys):
        raise UserError(f"{origin} must name one section and one key (section.key)")
    section, key = keys
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"{origin}: the value {text!r} is not valid YAML; quote it") from None
    if not isinstance(values.get(section) or {}, dict):
        raise UserError(f"{origin}: section {section!r} of the config file is not a mapping")
    values[section] = {**(values.get(section) or {}), key: value}


def _first_error(error: ValidationError) -> str:
    """Returns one line about the first error, with the name of its key."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    name = ".".join(path)
    if first["type"] == "extra_forbidden":
        section: Any = Config
        for part in path[:-1]:
            section = section.model_fields[part].annotation
        keys = ", ".join(sorted(section.model_fields))
        return f"unknown key {name!r}; known keys: {keys}"
    if not name:
        return str(first["msg"]).removeprefix("Value error, ")
    return f"{name}: {first['msg'][0].lower()}{first['msg'][1:]} (got {first['input']!r})"
