"""One door to storage: local paths and ``s3://bucket/prefix`` look alike to everything above this module.

pyarrow's filesystems move the data; boto3 does the one thing they cannot, S3's conditional put. Credentials, region and
endpoint come from the standard chain (``AWS_*`` variables, ``~/.aws``, instance roles).
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
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from reasonembed.errors import UserError

CHUNK = 1 << 20
READERS = 16

T = TypeVar("T")


@dataclass(frozen=True)
class FileEntry:
    """A data file as an artefact record lists it: path below the artefact, bytes, sha256."""

    path: str
    size: int
    sha256: str


def is_s3(uri: str) -> bool:
    return uri.startswith("s3://")


def join(uri: str, *parts: str) -> str:
    return "/".join([uri.rstrip("/"), *parts])


def absolute(uri: str) -> str:
    """The same place from any working directory: Ray's workers have another one than the driver."""
    return uri if is_s3(uri) else str(Path(uri).expanduser().resolve())


def open_filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """The pyarrow filesystem behind a URI, and the path to use on it."""
    if is_s3(uri):
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        options: dict[str, Any] = {"connect_timeout": 5, "request_timeout": 30}
        if endpoint:
            scheme, _, host = endpoint.rpartition("://")
            options |= {"endpoint_override": host, "scheme": scheme or "https"}
        if region := os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"):
            options["region"] = region
        return pafs.S3FileSystem(**options), uri.removeprefix("s3://").rstrip("/")
    if "://" in uri:
        raise UserError(f"{uri}: only local paths and s3:// are supported")
    return pafs.LocalFileSystem(), absolute(uri)


def exists(uri: str) -> bool:
    fs, path = open_filesystem(uri)
    return bool(fs.get_file_info(path).type != pafs.FileType.NotFound)


def is_file(uri: str) -> bool:
    fs, path = open_filesystem(uri)
    return bool(fs.get_file_info(path).type == pafs.FileType.File)


def size(uri: str) -> int:
    """Bytes of an object."""
    fs, path = open_filesystem(uri)
    return int(fs.get_file_info(path).size)


def check_writable(root: str) -> None:
    """Write and remove a probe file.

    Raises:
        UserError: the place cannot be written.
    """
    probe = join(root, f".probe-{uuid.uuid4().hex}")
    try:
        if is_s3(root):
            _probe_s3(probe)
        else:
            write_bytes(probe, b"")
            delete_file(probe)
    except OSError as error:
        detail = " ".join(str(error).split())
        raise UserError(f"run.root {root} cannot be written: {detail}") from None


def _probe_s3(uri: str) -> None:
    """With boto3, which says more than pyarrow about what is wrong, and says it sooner."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError, NoCredentialsError

    bucket, _, key = uri.removeprefix("s3://").partition("/")
    quick = Config(connect_timeout=4, read_timeout=8, retries={"total_max_attempts": 1})
    try:
        client = boto3.client("s3", config=quick)
        client.put_object(Bucket=bucket, Key=key, Body=b"")
        client.delete_object(Bucket=bucket, Key=key)
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        what = {
            "NoSuchBucket": f"bucket {bucket} does not exist",
            "InvalidAccessKeyId": "the key is refused (AWS_ACCESS_KEY_ID is not known there)",
            "SignatureDoesNotMatch": "the key is refused (AWS_SECRET_ACCESS_KEY is not that of AWS_ACCESS_KEY_ID)",
            "AccessDenied": f"the key is not allowed to write into bucket {bucket}",
        }.get(code, str(error))
        raise OSError(what) from None
    except NoCredentialsError:
        raise OSError(
            "there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or a profile"
        ) from None
    except (ConnectionError, HTTPClientError):
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "the S3 endpoint"
        raise OSError(f"no answer from {endpoint}") from None
    except (BotoCoreError, ValueError) as error:
        raise OSError(str(error)) from None


def read_bytes(uri: str) -> bytes:
    fs, path = open_filesystem(uri)
    with fs.open_input_stream(path) as stream:
        return bytes(stream.read())


def write_bytes(uri: str, data: bytes) -> None:
    """Write a whole object; a local file appears under its name only when it is complete."""
    fs, path = open_filesystem(uri)
    if is_s3(uri):
        with fs.open_output_stream(path) as stream:
            stream.write(data)
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    temporary.write_bytes(data)
    temporary.replace(target)


def open_output(uri: str) -> pa.NativeFile:
    """A stream to write an object piece by piece. What is left unfinished is told from the rest by its artefact's
    missing record, not by its name."""
    fs, path = open_filesystem(uri)
    if not is_s3(uri):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    return fs.open_output_stream(path)


def put_if_absent(uri: str, data: bytes) -> bool:
    """Create an object unless it is there already; of two writers exactly one gets True."""
    if is_s3(uri):
        import boto3
        from botocore.exceptions import ClientError

        bucket, _, key = uri.removeprefix("s3://").partition("/")
        try:
            boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=data, IfNoneMatch="*")
        except ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") in (409, 412):
                return False
            raise
        return True
    target = Path(absolute(uri))
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    temporary.write_bytes(data)
    try:
        os.link(temporary, target)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    return True


def delete_file(uri: str) -> None:
    fs, path = open_filesystem(uri)
    fs.delete_file(path)


def delete_tree(uri: str) -> None:
    """Remove everything below a URI; nothing there is fine."""
    fs, path = open_filesystem(uri)
    if fs.get_file_info(path).type == pafs.FileType.Directory:
        fs.delete_dir(path)


def list_files(uri: str) -> list[str]:
    """Paths of all files below a URI, relative to it, in order; below it, names with a leading dot are passed over."""
    fs, path = open_filesystem(uri)
    infos = fs.get_file_info(pafs.FileSelector(path, recursive=True, allow_not_found=True))
    names = [info.path[len(path) :].lstrip("/") for info in infos if info.type == pafs.FileType.File]
    return sorted(name for name in names if not any(part.startswith(".") for part in name.split("/")))


def list_folders(uri: str) -> list[str]:
    """Names of the folders right below a URI, in order."""
    fs, path = open_filesystem(uri)
    infos = fs.get_file_info(pafs.FileSelector(path, allow_not_found=True))
    return sorted(info.base_name for info in infos if info.type == pafs.FileType.Directory)


def describe_file(root: str, name: str) -> FileEntry:
    fs, path = open_filesystem(join(root, name))
    sha = hashlib.sha256()
    size = 0
    with fs.open_input_stream(path) as stream:
        while chunk := stream.read(CHUNK):
            sha.update(chunk)
            size += len(chunk)
    return FileEntry(name, size, sha.hexdigest())


def write_table(table: pa.Table, uri: str) -> None:
    """One Parquet file; a local one appears under its name only when it is complete."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    write_bytes(uri, sink.getvalue().to_pybytes())


@contextmanager
def parquet_file(uri: str) -> Iterator[pq.ParquetFile]:
    fs, path = open_filesystem(uri)
    # A file object, not a path: pyarrow would read `key=value` folders of a path as partition columns.
    with fs.open_input_file(path) as source:
        yield pq.ParquetFile(source)


def read_columns(uri: str, names: Sequence[str] | None = None) -> pa.Table:
    """Some columns (all of them when left out) of one Parquet file, as they are in it."""
    with parquet_file(uri) as found:
        return found.read(columns=names)


def row_count(uri: str) -> int:
    """Rows of one Parquet file."""
    with parquet_file(uri) as found:
        return int(found.metadata.num_rows)


def read_table(uris: Sequence[str], schema: pa.Schema) -> pa.Table:
    """The named Parquet files, one after the other, as one table of the given schema."""

    def read(uri: str) -> pa.Table:
        return read_columns(uri, schema.names).select(schema.names).cast(schema)

    return pa.concat_tables(each_of(read, uris)) if uris else schema.empty_table()


def each_of(function: Callable[[str], T], uris: Sequence[str]) -> list[T]:
    """The function's result for every URI, in order; many at a time, because a store answers slowly but to many."""
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(function, uris))


@contextmanager
def local_copy(uri: str, wanted: Callable[[str], bool] = lambda name: True) -> Iterator[Path]:
    """A local folder with what lies below a URI, for libraries that want paths; for S3 a temporary one of that name.

    Args:
        uri: of the folder.
        wanted: told a file's name below it, says whether it must be there.

    Raises:
        UserError: there is nothing.
    """
    if not is_s3(uri):
        yield Path(absolute(uri))
        return
    names = [name for name in list_files(uri) if wanted(name)]
    if not names:
        raise UserError(f"{uri}: no such folder, or an empty one")
    temporary = tempfile.mkdtemp(prefix="reasonembed-")
    folder = Path(temporary) / uri.rstrip("/").rsplit("/", 1)[-1]
    try:
        for name in names:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            fs, path = open_filesystem(join(uri, name))
            with fs.open_input_stream(path) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink, CHUNK)
        yield folder
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def upload_tree(folder: Path, uri: str) -> None:
    """Copy a local folder to a URI."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        target = join(uri, path.relative_to(folder).as_posix())
        if is_s3(uri):
            fs, key = open_filesystem(target)
            with path.open("rb") as source, fs.open_output_stream(key) as sink:
                shutil.copyfileobj(source, sink, CHUNK)
        else:
            Path(absolute(target)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, absolute(target))
