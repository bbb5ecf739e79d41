"""Manifests: the sizes and hashes of a checkpoint's files, by which a damaged checkpoint is recognised before use.

Every rank writes the manifest of its own files, last. A checkpoint is whole if the manifests of all ranks are there and
all files are as they say. Loading a damaged file might fail in many ways, or not at all.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from reasonembed import storage
from reasonembed.redapter.gather import rank, world_size

PREFIX = "manifest-"


def write_manifest(folder: Path) -> None:
    """Writes the manifest of this rank's part of a checkpoint, when all its other files are written.

    Args:
        folder: with the files of this rank alone.
    """
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    files = [asdict(storage.describe_file(str(folder), name)) for name in names]
    (folder / f"{PREFIX}{rank():05d}.json").write_text(json.dumps({"ranks": world_size(), "files": files}))


def find_damage(
    folder: Path, share: tuple[int, int] = (0, 1), include: Callable[[str], bool] = lambda name: True
) -> str | None:
    """Returns what is wrong with a checkpoint, or None if it is whole.

    Args:
        folder: of the whole checkpoint.
        share: (number, total) of the process that checks; the processes of all numbers together check all files.
        include: selects the files to check by their paths below the folder.
    """
    number, total = share
    manifests = sorted(folder.glob(f"{PREFIX}*.json"))
    if not manifests:
        return "it has no manifest"
    for position, path in enumerate(manifests):
        try:
            manifest = json.loads(path.read_bytes())
            ranks, files = int(manifest["ranks"]), [storage.FileEntry(**entry) for entry in manifest["files"]]
        except (OSError, ValueError, TypeError, KeyError):
            return f"{path.name} is damaged"
        if len(manifests) != ranks:
            return f"it has the manifests of {len(manifests)} of {ranks} ranks"
        if position % total == number:
            for entry in files:
                if include(entry.path) and (damage := _file_damage(folder, entry)):
                    return damage
    return None


def _file_damage(folder: Path, entry: storage.FileEntry) -> str | None:
    path = folder / entry.path
    try:
        size = path.stat().st_size
        if size != entry.size:
            return f"{entry.path} has {size:,} bytes instead of {entry.size:,}"
        if storage.describe_file(str(folder), entry.path) != entry:
            return f"the content of {entry.path} has changed"
    except FileNotFoundError:
        return f"{entry.path} is missing"
    except OSError as error:
        return f"{entry.path} cannot be read ({error.strerror or error})"
    return None
