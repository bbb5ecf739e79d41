"""Artifacts: the output folder of a stage, with a record that says that it is finished.

The folder is ``<run.root>/<stage>/<fingerprint>/``. The record ``_artifact.json`` lists the data files with sizes and
hashes; it is written last and once. A folder without a record is unfinished, whatever is in it, and readers open only
the files that the record lists.
"""

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa

from reasonembed import __version__, storage
from reasonembed.errors import UserError
from reasonembed.ids import digest_json

RECORD, LATEST = "_artifact.json", "latest"
SCRATCH = ".work"
"""Folder for the files of a stage in progress, such as checkpoints; they are never data."""
COMMIT = "GIT_COMMIT"
PACKAGES = ("ray", "torch", "transformers", "deepspeed", "faiss-cpu", "pyarrow", "numpy", "bm25s")


@dataclass(frozen=True, eq=False)
class Artifact:
    """A finished output of a stage."""

    uri: str
    record: Mapping[str, Any]

    @property
    def stage(self) -> str:
        """Name of the stage."""
        return str(self.record["stage"])

    @property
    def fingerprint(self) -> str:
        """Hash of all that decides the rows."""
        return str(self.record["fingerprint"])

    @property
    def figures(self) -> Mapping[str, Any]:
        """What the stage counted and measured."""
        return dict(self.record["figures"])

    @property
    def seconds(self) -> float:
        """Time that the stage took."""
        return float(self.record["seconds"])

    def input(self, name: str) -> "Artifact":
        """Returns the input artifact of a name.

        Raises:
            UserError: it has been removed since, or is no artifact.
        """
        artifact = self.find_input(name)
        if artifact is None:
            raise UserError(f"artifact {self.uri}: its input {name!r} has been removed; run the job again to make it")
        return artifact

    def find_input(self, name: str) -> "Artifact | None":
        """Returns the input artifact of a name; None where ``input`` raises."""
        value = self.record["inputs"].get(name)
        return load(value["uri"]) if isinstance(value, dict) else None

    @cached_property
    def files(self) -> list[storage.FileEntry]:
        """The data files."""
        return [storage.FileEntry(**entry) for entry in self.record["files"]]

    def path(self, name: str) -> str:
        """Returns the URI of a file that the record lists."""
        if name not in {entry.path for entry in self.files}:
            raise UserError(f"artifact {self.uri} has no file {name!r}; its record lists {len(self.files)} files")
        return storage.join(self.uri, name)

    def parquet(self, prefix: str = "") -> list[str]:
        """Returns the URIs of the Parquet files whose path below the artifact starts with ``prefix``, in order."""
        names = sorted(entry.path for entry in self.files)
        return [storage.join(self.uri, n) for n in names if n.startswith(prefix) and n.endswith(".parquet")]

    def table(self, schema: pa.Schema, prefix: str = "") -> pa.Table:
        """Returns the rows of these files as one table."""
        return storage.read_table(self.parquet(prefix), schema)


def load(uri: str) -> Artifact | None:
    """Returns the artifact at a URI, or None where there is no record.

    Raises:
        UserError: the record is not valid JSON.
    """
    record = storage.join(uri, RECORD)
    if not storage.exists(record):
        return None
    try:
        return Artifact(uri, json.loads(storage.read_bytes(record)))
    except ValueError:
        raise UserError(f"{record} is damaged (not JSON); remove the folder {uri} to compute it again") from None


def finished(root: str, stage: str) -> list[Artifact]:
    """Returns all finished artifacts of a stage, in the order of their folders' names."""
    folder = storage.join(storage.absolute(root), stage)
    artifacts = (load(storage.join(folder, name)) for name in storage.list_folders(folder))
    return [artifact for artifact in artifacts if artifact is not None]


def point_to(root: str, artifact: Artifact) -> None:
    """Makes ``<run.root>/<stage>/latest`` name an artifact. Readers see either the previous pointer or this one."""
    uri = storage.join(storage.absolute(root), artifact.stage, LATEST)
    pointer = json.dumps({"version": artifact.fingerprint, "uri": artifact.uri}).encode()
    if not storage.exists(uri) or storage.read_bytes(uri) != pointer:
        storage.write_bytes(uri, pointer)


def fingerprint(stage: str, version: int, settings: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """Returns the hash of all that decides a stage's rows: settings, fingerprints of the inputs, code version."""
    return digest_json({"stage": stage, "version": version, "config": dict(settings), "inputs": dict(inputs)})


@dataclass(frozen=True)
class Identity:
    """What an artifact is, before it is built: everything in its record that does not come from the build.

    Args:
        stage: name of the stage, and of the folder under ``run.root``.
        version: of the stage's code.
        fingerprint: see the function of this name.
        row_settings: settings that affect the rows.
        config: all settings that the stage reads.
        inputs: artifacts, or strings that represent the content of anything else.
    """

    stage: str
    version: int
    fingerprint: str
    row_settings: Mapping[str, Any]
    config: Mapping[str, Any]
    inputs: Mapping[str, "Artifact | str"]

    def uri(self, root: str) -> str:
        """Returns the folder of the artifact under ``run.root``."""
        return storage.join(storage.absolute(root), self.stage, self.fingerprint)


def build_artifact(root: str, identity: Identity, build: Callable[[str], Mapping[str, Any]]) -> Artifact:
    """Builds an artifact that is not finished and writes its record.

    Args:
        root: ``run.root``.
        identity: of the artifact.
        build: writes the data below the URI that it is given and returns figures for the record. It may find files of
            an interrupted run there and continue from them.
    """
    uri = identity.uri(root)
    started = time.time()
    figures = dict(build(uri))
    files = [storage.describe_file(uri, name) for name in storage.list_files(uri) if name != RECORD]
    record = {
        "stage": identity.stage,
        "fingerprint": identity.fingerprint,
        "code_version": identity.version,
        "config": dict(identity.config),
        "row_settings": dict(identity.row_settings),
        "inputs": {name: recorded(value) for name, value in identity.inputs.items()},
        "figures": figures,
        "seconds": round(time.time() - started, 2),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": versions(),
        "git_commit": git_commit(),
        "files": [asdict(entry) for entry in files],
    }
    storage.put_if_absent(storage.join(uri, RECORD), json.dumps(record, indent=1, ensure_ascii=False).encode())
    storage.delete_tree(storage.join(uri, SCRATCH))
    artifact = load(uri)
    assert artifact is not None
    return artifact


def recorded(source: Artifact | str) -> Any:
    """Returns how a record names an input."""
    return {"uri": source.uri, "fingerprint": source.fingerprint} if isinstance(source, Artifact) else source


def versions() -> dict[str, str]:
    """Returns the versions of this package, Python and the packages that decide results."""
    installed = {"reasonembed": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def git_commit() -> str | None:
    """Returns the commit of the running code, followed by ``+`` if files have changed since; None if unknown.
    On a cluster or in an image, which have no repository, the environment variable ``GIT_COMMIT`` holds it."""
    if commit := os.environ.get(COMMIT):
        return commit
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None
