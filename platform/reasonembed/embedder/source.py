"""Where a model comes from, and the hash that stands for it. Loads neither torch nor the model."""

import importlib
from pathlib import Path

from reasonembed import storage
from reasonembed.errors import UserError
from reasonembed.ids import digest

FILES = (".safetensors", ".json", ".txt", ".model")


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


def local_folder(name: str) -> str:
    """A folder with the model's files; those of a hub id are fetched into the hub's own cache first.

    Raises:
        UserError: it cannot be had.
    """
    place = resolve(name)
    if Path(place).is_dir():
        return place
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return str(snapshot_download(place, allow_patterns=[f"*{suffix}" for suffix in (*FILES, ".py", ".jinja")]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"model {name} cannot be loaded from the hub: {reason}") from None


def model_fingerprint(name: str) -> str:
    """Hash of all that decides the vectors: weights, tokenizer, pooling, prompts. A hub id stands for itself."""
    folder = Path(resolve(name))
    if not folder.is_dir():
        return digest("hub", name)
    parts = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix in FILES):
        entry = storage.describe_file(str(folder), path.relative_to(folder).as_posix())
        parts += [entry.path, entry.sha256]
    return digest("folder", *parts)
