"""The source of a model (folder, hub, bucket or package) and its fingerprint. Loads neither torch nor the model."""

import importlib
import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from reasonembed import storage
from reasonembed.errors import UserError
from reasonembed.ids import digest

log = logging.getLogger(__name__)

# Suffixes of the files that decide a model's vectors.
FILE_SUFFIXES = (".safetensors", ".json", ".txt", ".model")


def resolve(name: str) -> str:
    """Returns the folder or hub id that ``transformers`` can load, for a model as the config names it.

    Args:
        name: folder, hub id or ``package:<module>``.

    Raises:
        UserError: ``package:<module>`` is not installed, or a path does not exist.
    """
    if name.startswith("package:"):
        module = name.removeprefix("package:")
        try:
            return str(importlib.import_module(module).get_model_path())
        except (ImportError, AttributeError):
            raise UserError(f"model {name}: no installed package {module!r} contains a model") from None
    if Path(name).is_dir():
        return str(Path(name).resolve())
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError(f"model {name}: no such folder")
    return name


def local_folder(name: str) -> str:
    """Returns a folder with the model's files; a model on the hub is first downloaded into the hub's own cache.

    Raises:
        UserError: the model does not exist or cannot be downloaded.
    """
    source = resolve(name)
    if Path(source).is_dir():
        return source
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = [f"*{suffix}" for suffix in (*FILE_SUFFIXES, ".py", ".jinja")]
    try:
        return str(snapshot_download(source, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise UserError(f"model {name} cannot be loaded from the hub: {_first_line(error)}") from None


def model_fingerprint(name: str) -> str:
    """Returns a hash of everything that decides the vectors: weights, tokenizer, pooling, prompts.

    For a model on the hub it is the hash of its revision.

    Args:
        name: folder, ``s3://`` folder, hub id or ``package:<module>``.

    Raises:
        UserError: the model does not exist, or its revision cannot be determined.
    """
    if storage.is_s3(name):
        names = [path for path in storage.list_files(name) if path.endswith(FILE_SUFFIXES)]
        if not names:
            raise UserError(f"model {name}: the folder contains no model files")
        return _files_fingerprint(name, names)
    folder = Path(resolve(name))
    if not folder.is_dir():
        return digest("hub", name, _revision(name))
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix in FILE_SUFFIXES)
    return _files_fingerprint(str(folder), names)


def _files_fingerprint(root: str, names: Sequence[str]) -> str:
    """Returns the hash of the files. Files of the same sizes and times are hashed once by a process: they can be large,
    and several stages use one model."""
    states = tuple((name, *storage.file_state(storage.join(root, name))) for name in names)
    return _cached_fingerprint(root, states)


@lru_cache(maxsize=64)
def _cached_fingerprint(root: str, states: tuple[tuple[str, int, int], ...]) -> str:
    entries = [storage.describe_file(root, name) for name, _, _ in states]
    return digest("folder", *(part for entry in entries for part in (entry.path, entry.sha256)))


@lru_cache(maxsize=64)
def _revision(hub_id: str) -> str:
    """Returns the commit of a model on the hub; without a network, the commit in the hub's local cache."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return str(HfApi().model_info(hub_id, timeout=10).sha)
    except (HfHubHTTPError, HFValidationError) as error:
        raise UserError(f"model {hub_id}: {_first_line(error)}") from None
    except Exception as error:  # noqa: BLE001 -- no network; the type depends on the HTTP library of the hub's client
        log.debug("the hub does not answer: %s", error)
    try:
        return Path(snapshot_download(hub_id, local_files_only=True)).name
    except (OSError, ValueError) as error:
        raise UserError(f"model {hub_id}: neither the hub nor its cache has it ({_first_line(error)})") from None


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
