"""Artifacts: the output folder of a stage, with a record that says that it is finished.

The folder is ``<run.root>/<stage>/<fingerprint>/``. Each attempt to build the artifact writes its data into a folder of
its own below it. The record ``_artifact.json`` beside these folders is created last and once, by a conditional put: it
names the attempt that was first and lists its files with sizes and hashes. A record therefore never describes files of
another attempt, whatever several runs do at the same time. A copy of the record is in the attempt's folder.

Files of a stage in progress, such as checkpoints, are in the folder ``.work``, which all attempts share one after the
other: a lease (``lease``) lets one run at a time build an artifact.
"""

import json
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from reasonembed import storage
from reasonembed.errors import UserError
from reasonembed.ids import digest_json
from reasonembed.lease import acquire
from reasonembed.provenance import git_commit, versions

log = logging.getLogger(__name__)

RECORD, LATEST = "_artifact.json", "latest"
SCRATCH, LEASE = ".work", ".lease"
RECORD_FIELDS = {"stage": str, "fingerprint": str, "attempt": str, "inputs": dict, "figures": dict, "files": list}
"""Fields that every record has, with their JSON types."""


@dataclass(frozen=True, eq=False)
class Artifact:
    """A finished output of a stage."""

    uri: str
    """Folder of the data, with a copy of the record."""
    record: Mapping[str, Any]

    @property
    def folder(self) -> str:
        """Folder of the fingerprint, with the record."""
        return _parent(self.uri)

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
    """Returns the artifact at a URI, of its fingerprint or of its data, or None where there is no record.

    Raises:
        UserError: the record is damaged.
    """
    path = storage.join(uri, RECORD)
    try:
        record = json.loads(storage.read_bytes(path))
    except FileNotFoundError:
        return None
    except ValueError:
        record = None
    if (reason := _damage(record)) is not None:
        raise UserError(
            f"{path} is damaged or of an earlier version ({reason}); remove the folder {uri} to compute it again"
        )
    attempt = str(record["attempt"])
    return Artifact(uri if uri.rstrip("/").endswith(f"/{attempt}") else storage.join(uri, attempt), record)


def _damage(record: Any) -> str | None:
    """Returns what is wrong with a record; None for a valid one."""
    if not isinstance(record, dict):
        return "not a JSON object"
    for name, kind in RECORD_FIELDS.items():
        if not isinstance(record.get(name), kind):
            return f"field {name!r} is missing or has the wrong type"
    if "/" in record["attempt"] or record["attempt"].startswith(".") or not record["attempt"]:
        return "'attempt' is not the name of a folder"
    for entry in record["files"]:
        if not isinstance(entry, dict) or set(entry) != {"path", "size", "sha256"}:
            return "an entry of 'files' is not a file"
        if any(part in ("", ".", "..") for part in str(entry["path"]).split("/")):
            return f"file {entry['path']!r} is outside the folder"
    return None


def finished(root: str, stage: str) -> list[Artifact]:
    """Returns all finished artifacts of a stage, in the order of their folders' names."""
    folder = storage.join(storage.absolute(root), stage)
    artifacts = []
    for name in storage.list_folders(folder):
        try:
            artifact = load(storage.join(folder, name))
        except UserError as error:
            log.warning("skipped: %s", error)
            continue
        artifacts += [artifact] if artifact is not None else []
    return artifacts


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

    def folder(self, root: str) -> str:
        """Returns the folder of the fingerprint under ``run.root``."""
        return storage.join(storage.absolute(root), self.stage, self.fingerprint)


def build_artifact(
    root: str,
    identity: Identity,
    build: Callable[[str], Mapping[str, Any]],
    on_wait: Callable[[str], None] = lambda holder: None,
) -> Artifact:
    """Returns the finished artifact, which is built here or by another run that does so at the same time.

    Args:
        root: ``run.root``.
        identity: of the artifact.
        build: writes the data below the URI that it is given and returns figures for the record. Files of an
            interrupted attempt may be in ``scratch_uri`` of that URI, and it may continue from them.
        on_wait: called with a description of the other run when this one has to wait for it.
    """
    folder = identity.folder(root)
    lease = acquire(storage.join(folder, LEASE), lambda: load(folder) is not None, on_wait)
    if lease is not None:
        with lease:
            return _build_attempt(folder, identity, build)
    artifact = load(folder)
    assert artifact is not None
    return artifact


def _build_attempt(folder: str, identity: Identity, build: Callable[[str], Mapping[str, Any]]) -> Artifact:
    attempt = uuid.uuid4().hex[:8]
    uri = storage.join(folder, attempt)
    started = time.time()
    try:
        figures = dict(build(uri))
    except Exception:
        # After a long pause another run may have finished the artifact, and removed the files that this one was using.
        if (artifact := load(folder)) is not None:
            return artifact
        raise
    files = [storage.describe_file(uri, name) for name in storage.list_files(uri)]
    record = {
        "stage": identity.stage,
        "fingerprint": identity.fingerprint,
        "attempt": attempt,
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
    content = json.dumps(record, indent=1, ensure_ascii=False).encode()
    storage.write_bytes(storage.join(uri, RECORD), content)
    storage.sync_tree(uri)  # a record that survives a power failure must not name data that does not
    if storage.put_if_absent(storage.join(folder, RECORD), content):
        storage.delete_tree(storage.join(folder, SCRATCH))
    else:
        storage.delete_tree(uri)  # another run was first
    artifact = load(folder)
    assert artifact is not None
    return artifact


def scratch_uri(uri: str, *parts: str) -> str:
    """Returns a URI in the scratch folder of an artifact, which later attempts find again.

    Args:
        uri: folder of an attempt's data.
        parts: path below the scratch folder.
    """
    return storage.join(_parent(uri), SCRATCH, *parts)


def _parent(uri: str) -> str:
    return uri.rstrip("/").rsplit("/", 1)[0]


def recorded(source: Artifact | str) -> Any:
    """Returns how a record names an input."""
    return {"uri": source.uri, "fingerprint": source.fingerprint} if isinstance(source, Artifact) else source
