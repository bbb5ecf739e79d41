"""Artefacts: a stage's output folder, and the record beside the data that alone makes it one.

The folder is ``<run.root>/<stage>/<fingerprint>/``. ``_artifact.json`` in it lists the data files with sizes and
hashes; it is written last and once. A folder without a record is work in progress, whatever lies in it, and readers
open only the files that a record lists.
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
# Scratch of a stage in progress (checkpoints, inputs of a row stage) lies in folders of this name and is never data.
SCRATCH = ".work"
COMMIT = "GIT_COMMIT"
PACKAGES = ("ray", "torch", "transformers", "deepspeed", "faiss-cpu", "pyarrow", "numpy", "bm25s")


@dataclass(frozen=True, eq=False)
class Artifact:
    """A finished output. ``figures`` holds what the stage counted and measured."""

    uri: str
    record: Mapping[str, Any]

    @property
    def stage(self) -> str:
        return str(self.record["stage"])

    @property
    def fingerprint(self) -> str:
        return str(self.record["fingerprint"])

    @property
    def figures(self) -> Mapping[str, Any]:
        return dict(self.record["figures"])

    @property
    def seconds(self) -> float:
        return float(self.record["seconds"])

    def input(self, name: str) -> "Artifact":
        """The artefact that went into this one under a name.

        Raises:
            UserError: it has been removed since, or was none.
        """
        found = self.find_input(name)
        if found is None:
            raise UserError(f"artefact {self.uri}: its input {name!r} is not there any more")
        return found

    def find_input(self, name: str) -> "Artifact | None":
        """As ``input``; None where that raises."""
        value = self.record["inputs"].get(name)
        return load(value["uri"]) if isinstance(value, dict) else None

    @cached_property
    def files(self) -> list[storage.FileEntry]:
        return [storage.FileEntry(**entry) for entry in self.record["files"]]

    def path(self, name: str) -> str:
        """URI of a file that the record lists."""
        if name not in {entry.path for entry in self.files}:
            raise UserError(f"artefact {self.uri} has no file {name!r}; its record lists {len(self.files)} files")
        return storage.join(self.uri, name)

    def parquet(self, prefix: str = "") -> list[str]:
        """URIs of the Parquet files whose path below the artefact starts with ``prefix``, in order."""
        names = sorted(entry.path for entry in self.files)
        return [storage.join(self.uri, n) for n in names if n.startswith(prefix) and n.endswith(".parquet")]

    def table(self, schema: pa.Schema, prefix: str = "") -> pa.Table:
        return storage.read_table(self.parquet(prefix), schema)


def load(uri: str) -> Artifact | None:
    """The artefact at a URI, or None where there is no record.

    Raises:
        UserError: the record is there and is not one.
    """
    record = storage.join(uri, RECORD)
    if not storage.exists(record):
        return None
    try:
        return Artifact(uri, json.loads(storage.read_bytes(record)))
    except ValueError:
        raise UserError(f"{record} is damaged (not JSON); remove the folder {uri} to compute it again") from None


def finished(root: str, stage: str) -> list[Artifact]:
    """All finished artefacts of a stage, in the order of their folders' names."""
    folder = storage.join(storage.absolute(root), stage)
    found = (load(storage.join(folder, name)) for name in storage.list_folders(folder))
    return [artifact for artifact in found if artifact is not None]


def point_to(root: str, artifact: Artifact) -> None:
    """Let ``<run.root>/<stage>/latest`` name an artefact. Readers see the one before or this one, whole."""
    place = storage.join(storage.absolute(root), artifact.stage, LATEST)
    told = json.dumps({"version": artifact.fingerprint, "uri": artifact.uri}).encode()
    if not storage.exists(place) or storage.read_bytes(place) != told:
        storage.write_bytes(place, told)


def fingerprint(stage: str, version: int, config: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """Hash of all that decides a stage's output: its settings, its inputs' fingerprints, its code's version."""
    return digest_json({"stage": stage, "version": version, "config": dict(config), "inputs": dict(inputs)})


def materialise(
    root: str,
    stage: str,
    version: int,
    config: Mapping[str, Any],
    inputs: Mapping[str, Artifact | str],
    build: Callable[[str], Mapping[str, Any]],
    on_reuse: Callable[[Artifact], None] = lambda artifact: None,
) -> Artifact:
    """Return the finished artefact, building it only if it is not there.

    Args:
        root: ``run.root``.
        stage: the stage's name, and the folder under ``root``.
        version: of the stage's code; raise it when the same inputs would give other rows.
        config: the settings that decide the output.
        inputs: artefacts (their fingerprints count), or a string that stands for the content of anything else.
        build: writes the data below the URI it is given and returns the figures for the record. It may find the
            remains of an interrupted run there and go on from them.
        on_reuse: told when nothing had to be done.
    """
    keys = {name: value.fingerprint if isinstance(value, Artifact) else value for name, value in inputs.items()}
    mark = fingerprint(stage, version, config, keys)
    uri = storage.join(storage.absolute(root), stage, mark)
    if (found := load(uri)) is not None:
        on_reuse(found)
        return found
    started = time.time()
    figures = dict(build(uri))
    files = [storage.describe_file(uri, name) for name in storage.list_files(uri) if name != RECORD]
    record = {
        "stage": stage,
        "fingerprint": mark,
        "code_version": version,
        "config": dict(config),
        "inputs": {name: recorded(value) for name, value in inputs.items()},
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
    """How a record names something that went into an artefact."""
    return {"uri": source.uri, "fingerprint": source.fingerprint} if isinstance(source, Artifact) else source


def versions() -> dict[str, str]:
    found = {"reasonembed": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """Commit of the code that runs, with ``+`` behind it if files have changed since. Code that was sent to a
    cluster, or built into an image, is told by the environment; None where nobody knows."""
    if told := os.environ.get(COMMIT):
        return told
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None
