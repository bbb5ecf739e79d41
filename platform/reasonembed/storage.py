"""Files and Parquet tables on local paths and on S3 (``s3://bucket/prefix``), with the same functions for both.

Every ``uri`` is a local path or an S3 URI. pyarrow's filesystems move the data; boto3 makes the requests that they
cannot (``s3_requests``). Credentials, region and endpoint come from the standard chain (``AWS_*`` variables,
``~/.aws``, instance roles).

A small file that is written as a whole is on the disk, with its name, before the function returns. Requests to S3 are
repeated for a minute and a half; then they fail with ``S3Unavailable``, and with ``S3AccessError`` if S3 refuses them.
"""

import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from reasonembed import s3_requests
from reasonembed.durability import create_file, make_folder, replace_file, sync_folder_tree
from reasonembed.errors import UserError
from reasonembed.s3_filesystem import explained, open_s3

CHUNK_BYTES = 1 << 20
CONCURRENT_REQUESTS = 16

T = TypeVar("T")


@dataclass(frozen=True)
class FileEntry:
    """A data file in the record of an artifact."""

    path: str
    """Relative to the artifact."""
    size: int
    """Bytes."""
    sha256: str
    """Hexadecimal."""


def is_s3(uri: str) -> bool:
    """Returns whether a URI is on S3."""
    return uri.startswith("s3://")


def join(uri: str, *parts: str) -> str:
    """Returns the URI of something below another URI."""
    return "/".join([uri.rstrip("/"), *parts])


def absolute(uri: str) -> str:
    """Returns a URI that does not depend on the working directory: that of Ray's workers is not that of the driver."""
    return uri if is_s3(uri) else str(Path(uri).expanduser().resolve())


def open_filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """Returns the pyarrow filesystem of a URI, and the path on it.

    Raises:
        UserError: the scheme is not supported.
    """
    if is_s3(uri):
        return open_s3(), uri.removeprefix("s3://").rstrip("/")
    if "://" in uri:
        raise UserError(f"{uri}: only local paths and s3:// are supported")
    return pafs.LocalFileSystem(), absolute(uri)


@explained
def exists(uri: str) -> bool:
    """Returns whether there is a file or a folder."""
    filesystem, path = open_filesystem(uri)
    return bool(filesystem.get_file_info(path).type != pafs.FileType.NotFound)


@explained
def is_file(uri: str) -> bool:
    """Returns whether there is a file."""
    filesystem, path = open_filesystem(uri)
    return bool(filesystem.get_file_info(path).type == pafs.FileType.File)


@explained
def size(uri: str) -> int:
    """Returns the bytes of a file."""
    filesystem, path = open_filesystem(uri)
    return int(filesystem.get_file_info(path).size)


def check_writable(root: str) -> None:
    """Writes and deletes an empty file below ``run.root``.

    Raises:
        UserError: it cannot be written.
    """
    probe = join(root, f".probe-{uuid.uuid4().hex}")
    try:
        if is_s3(root):
            s3_requests.probe_write(probe)
        else:
            write_bytes(probe, b"")
            delete_file(probe)
    except OSError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"run.root {root} cannot be written: {reason}") from None


@explained
def read_bytes(uri: str) -> bytes:
    """Returns the content of a file."""
    filesystem, path = open_filesystem(uri)
    with filesystem.open_input_stream(path) as stream:
        return bytes(stream.read())


@explained
def write_bytes(uri: str, data: bytes) -> None:
    """Writes a file. Readers never see a part of it: a local file gets its name when it is complete and on the disk."""
    filesystem, path = open_filesystem(uri)
    if not is_s3(uri):
        replace_file(Path(path), data)
        return
    with filesystem.open_output_stream(path) as stream:
        stream.write(data)


@explained
def put_if_absent(uri: str, data: bytes) -> bool:
    """Creates a file and returns True, or returns False when it exists: exactly one of two writers gets True."""
    return s3_requests.put_if_absent(uri, data) if is_s3(uri) else create_file(Path(absolute(uri)), data)


@explained
def sync_tree(uri: str) -> None:
    """Puts all files below a local folder on the disk, before a record that lists them is written; S3 needs no call."""
    if not is_s3(uri):
        sync_folder_tree(Path(absolute(uri)))


@explained
def open_output(uri: str) -> pa.NativeFile:
    """Returns a stream that writes a file. The file has its name from the start: an unfinished artifact is recognized
    by its missing record."""
    filesystem, path = open_filesystem(uri)
    if not is_s3(uri):
        make_folder(Path(path).parent)
    return filesystem.open_output_stream(path)


@explained
def delete_file(uri: str) -> None:
    """Deletes a file."""
    filesystem, path = open_filesystem(uri)
    filesystem.delete_file(path)


@explained
def delete_tree(uri: str) -> None:
    """Deletes a folder with all that is below it, if it exists."""
    filesystem, path = open_filesystem(uri)
    if filesystem.get_file_info(path).type == pafs.FileType.Directory:
        filesystem.delete_dir(path)


@explained
def list_files(uri: str) -> list[str]:
    """Returns the sorted relative paths of all files below a URI, except those with a part that starts with a dot."""
    filesystem, path = open_filesystem(uri)
    infos = filesystem.get_file_info(pafs.FileSelector(path, recursive=True, allow_not_found=True))
    names = [info.path[len(path) :].lstrip("/") for info in infos if info.type == pafs.FileType.File]
    return sorted(name for name in names if not any(part.startswith(".") for part in name.split("/")))


@explained
def list_folders(uri: str) -> list[str]:
    """Returns the sorted names of the folders directly below a URI."""
    filesystem, path = open_filesystem(uri)
    infos = filesystem.get_file_info(pafs.FileSelector(path, allow_not_found=True))
    return sorted(info.base_name for info in infos if info.type == pafs.FileType.Directory)


@explained
def list_hidden_files(uri: str) -> list[str]:
    """Returns the sorted names of the files directly below a URI that start with a dot."""
    filesystem, path = open_filesystem(uri)
    infos = filesystem.get_file_info(pafs.FileSelector(path, allow_not_found=True))
    names = [info.base_name for info in infos if info.type == pafs.FileType.File]
    return sorted(name for name in names if name.startswith("."))


@explained
def file_state(uri: str) -> tuple[int, int]:
    """Returns the size of a file in bytes and the time of its last change in nanoseconds."""
    filesystem, path = open_filesystem(uri)
    info = filesystem.get_file_info(path)
    return int(info.size), int(info.mtime_ns)


@explained
def tree_bytes(uri: str) -> int:
    """Returns the size of all files below a URI."""
    filesystem, path = open_filesystem(uri)
    infos = filesystem.get_file_info(pafs.FileSelector(path, recursive=True, allow_not_found=True))
    return sum(info.size for info in infos if info.type == pafs.FileType.File)


@explained
def describe_file(root: str, name: str) -> FileEntry:
    """Returns the size and the hash of the file ``name`` below ``root``."""
    filesystem, path = open_filesystem(join(root, name))
    sha = hashlib.sha256()
    size = 0
    with filesystem.open_input_stream(path) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            sha.update(chunk)
            size += len(chunk)
    return FileEntry(name, size, sha.hexdigest())


def write_table(table: pa.Table, uri: str) -> None:
    """Writes one Parquet file; see ``write_bytes``."""
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd")
    write_bytes(uri, buffer.getvalue().to_pybytes())


@contextmanager
def parquet_file(uri: str) -> Iterator[pq.ParquetFile]:
    """Yields an open Parquet file."""
    filesystem, path = open_filesystem(uri)
    # With a path instead of a file object, pyarrow would read `key=value` folders of the path as partition columns.
    with filesystem.open_input_file(path) as source:
        yield pq.ParquetFile(source)


@explained
def read_columns(uri: str, names: Sequence[str] | None = None) -> pa.Table:
    """Returns columns of one Parquet file with the file's own types; all columns when no names are given."""
    with parquet_file(uri) as parquet:
        return parquet.read(columns=names)


@explained
def row_count(uri: str) -> int:
    """Returns the number of rows of one Parquet file."""
    with parquet_file(uri) as parquet:
        return int(parquet.metadata.num_rows)


def read_table(uris: Sequence[str], schema: pa.Schema) -> pa.Table:
    """Returns the rows of Parquet files, in the order of the files, as one table of the schema."""

    def read(uri: str) -> pa.Table:
        return read_columns(uri, schema.names).select(schema.names).cast(schema)

    return pa.concat_tables(map_concurrently(read, uris)) if uris else schema.empty_table()


def map_concurrently(function: Callable[[str], T], uris: Sequence[str]) -> list[T]:
    """Returns the function's result for every URI, in order. Requests to S3 take long and can run at the same time."""
    with ThreadPoolExecutor(CONCURRENT_REQUESTS) as pool:
        return list(pool.map(function, uris))


@contextmanager
def local_copy(uri: str, include: Callable[[str], bool] = lambda name: True) -> Iterator[Path]:
    """Yields a local folder with the files below a URI, for libraries that need paths.

    A folder on S3 is copied to a temporary folder with the same last name; a local folder is yielded itself.

    Args:
        uri: of the folder.
        include: selects the files of a copy by their paths below the URI.

    Raises:
        UserError: there is no file on S3.
    """
    if not is_s3(uri):
        yield Path(absolute(uri))
        return
    names = [name for name in list_files(uri) if include(name)]
    if not names:
        raise UserError(f"{uri}: no such folder, or an empty one")
    temporary = tempfile.mkdtemp(prefix="reasonembed-")
    folder = Path(temporary) / uri.rstrip("/").rsplit("/", 1)[-1]
    try:
        for name in names:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            filesystem, path = open_filesystem(join(uri, name))
            with filesystem.open_input_stream(path) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink, CHUNK_BYTES)
        yield folder
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@explained
def upload_tree(folder: Path, uri: str) -> None:
    """Copies a local folder to a URI."""
    for path in sorted(file for file in folder.rglob("*") if file.is_file()):
        target = join(uri, path.relative_to(folder).as_posix())
        if is_s3(uri):
            filesystem, key = open_filesystem(target)
            with path.open("rb") as source, filesystem.open_output_stream(key) as sink:
                shutil.copyfileobj(source, sink, CHUNK_BYTES)
        else:
            Path(absolute(target)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, absolute(target))


@explained
def copy_tree(source: str, target: str) -> None:
    """Copies the files below a URI to another URI of the same store; local files are linked instead."""
    for name in list_files(source):
        if not is_s3(source):
            path = Path(absolute(join(target, name)))
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(absolute(join(source, name)), path)
            continue
        filesystem, key = open_filesystem(join(source, name))
        target_key = open_filesystem(join(target, name))[1]
        # Streamed, because S3 copies objects of at most 5 GB by itself.
        with filesystem.open_input_stream(key) as reader, filesystem.open_output_stream(target_key) as writer:
            shutil.copyfileobj(reader, writer, CHUNK_BYTES)
