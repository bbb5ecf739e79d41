"""Where a model comes from, and the hash that stands for it. Loads neither torch nor the model."""

import importlib
import logging
from collections.abc import Sequence
from pathlib import Path

from reasonembed import storage
from reasonembed.errors import UserError
from reasonembed.ids import digest

log = logging.getLogger(__name__)

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
        raise UserError(f"model {name} cannot be loaded from the hub: {_first_line(error)}") from None


def model_fingerprint(name: str) -> str:
    """Hash of all that decides the vectors: weights, tokenizer, pooling, prompts. Of a hub id it is its revision.

    Raises:
        UserError: the model is not there, or the hub does not say which revision it has.
    """
    if storage.is_s3(name):
        names = [path for path in storage.list_files(name) if path.endswith(FILES)]
        if not names:
            raise UserError(f"model {name}: no model's files there")
        return _of_files(name, names)
    folder = Path(resolve(name))
    if not folder.is_dir():
        return digest("hub", name, _revision(name))
    return _of_files(
        str(folder), sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.suffix in FILES)
    )


def _of_files(root: str, names: Sequence[str]) -> str:
    entries = [storage.describe_file(root, name) for name in names]
    return digest("folder", *(part for entry in entries for part in (entry.path, entry.sha256)))


def _revision(hub_id: str) -> str:
    """The commit that the hub has of a model; without a network that of the hub's cache."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return str(HfApi().model_info(hub_id, timeout=10).sha)
    except (HfHubHTTPError, HFValidationError) as error:
        raise UserError(f"model {hub_id}: {_first_line(error)}") from None
    except Exception as error:  # noqa: BLE001 -- no network, in the words of whatever HTTP library the hub's client uses
        log.debug("the hub does not answer: %s", error)
    try:
        return Path(snapshot_download(hub_id, local_files_only=True)).name
    except (OSError, ValueError) as error:
        raise UserError(f"model {hub_id}: neither the hub nor its cache has it ({_first_line(error)})") from None


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
