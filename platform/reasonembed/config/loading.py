"""Reading a configuration: YAML file < environment < ``section.key=value`` arguments.

An environment variable is named ``REASONEMBED_<SECTION>__<KEY>`` (``REASONEMBED_RUN__ROOT=s3://bucket/prefix``).
Values from the environment and from arguments are read as YAML, so ``[a, b]``, ``true`` and ``3`` mean what they say.
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
    """Read a YAML file, lay the environment and then ``section.key=value`` strings over it, and check everything.

    Raises:
        UserError: the file is missing or not YAML, a key is unknown, or a value has the wrong type.
    """
    values = _read_yaml(Path(path))
    for name, text in sorted((os.environ if env is None else env).items()):
        if name.startswith(ENV_PREFIX):
            _put(values, name[len(ENV_PREFIX) :].lower().split("__"), text, where=f"environment variable {name}")
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise UserError(f"argument {override!r} is not of the form section.key=value")
        _put(values, key.split("."), text, where=f"argument {override!r}")
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise UserError(f"config {path}: {_explain(error)}") from None


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
        raise UserError(f"config file {path} must hold sections (a mapping), not a {type(values).__name__}")
    return values


def _put(values: dict[str, Any], keys: list[str], text: str, where: str) -> None:
    if len(keys) != 2 or not all(keys):
        raise UserError(f"{where} must name one section and one key (section.key)")
    section, key = keys
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"{where}: the value {text!r} is not valid YAML; quote it") from None
    if not isinstance(values.get(section) or {}, dict):
        raise UserError(f"{where}: section {section!r} of the config file is not a mapping")
    values[section] = {**(values.get(section) or {}), key: value}


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    name = ".".join(path)
    if first["type"] == "extra_forbidden":
        owner: Any = Config
        for part in path[:-1]:
            owner = owner.model_fields[part].annotation
        known = ", ".join(sorted(owner.model_fields))
        return f"unknown key {name!r}; known here: {known}"
    if not name:
        return str(first["msg"]).removeprefix("Value error, ")
    return f"{name}: {first['msg'][0].lower()}{first['msg'][1:]} (got {first['input']!r})"
