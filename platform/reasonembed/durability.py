"""Local files that survive a loss of power: what has a name is complete and on the disk."""

import errno
import os
import uuid
from pathlib import Path

# Some network filesystems cannot synchronise a folder.
_UNSUPPORTED = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)


def replace_file(path: Path, data: bytes) -> None:
    """Writes a file; readers see either the previous content or this one."""
    temporary = _write_temporary(path, data)
    try:
        temporary.replace(path)
    except OSError:
        temporary.unlink()
        raise
    sync_folder(path.parent)


def create_file(path: Path, data: bytes) -> bool:
    """Creates a file and returns True, or returns False when it exists."""
    temporary = _write_temporary(path, data)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    sync_folder(path.parent)
    return True


def make_folder(folder: Path) -> None:
    """Creates a folder and its missing parents, whose names are then on the disk."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder_tree(folder: Path) -> None:
    """Puts all files and names below a folder on the disk."""
    for name, _, files in os.walk(folder):
        for file in files:
            sync_file(Path(name, file))
        sync_folder(Path(name))


def sync_file(path: Path) -> None:
    """Puts the content of a file on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Puts the names in a folder on the disk."""
    try:
        sync_file(folder)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


def _write_temporary(target: Path, data: bytes) -> Path:
    """Returns a hidden file with the data, on the disk, in the folder of the target."""
    make_folder(target.parent)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary
