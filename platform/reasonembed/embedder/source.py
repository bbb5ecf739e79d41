"""Where a model comes from, and the hash that stands for it. Loads neither torch nor the model."""

import importlib
from pathlib import Path

from reasonembed import storage
from reasonembed.errors import UserError
from reasonembed.ids import digest


def resolve(name: str) -> str:
    """A folder or hub id that ``transformers`` can load, for a model as the config names it.

    Raises:
        UserError: ``package:<module>`` is not installed, or a path does not exist.
    """
    if name.startswith("package:"):
        module = name.removeprefix("package:")
        try:
            return str(importlib.import_module(module).get_model_path())
        except (ImportError, AttributeError):
            raise UserError(f"model {name}: no installed package {module!r} carries a model") from None
    if Path(name).is_dir():
        return str(Path(name).resolve())
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError(f"model {name}: no such folder")
    return name


def model_fingerprint(name: str) -> str:
    """Hash of all that decides the vectors: weights, tokenizer, pooling, prompts. A hub id stands for itself."""
    folder = Path(resolve(name))
    if not folder.is_dir():
        return digest("hub", name)
    parts = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".safetensors", ".json", ".txt", ".model")):
        entry = storage.describe_file(str(folder), path.relative_to(folder).as_posix())
        parts += [entry.path, entry.sha256]
    return digest("folder", *parts)
