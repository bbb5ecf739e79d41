"""Garbage below ``run.root``: what interrupted runs have left, and artifacts that nothing refers to any more.

Nothing is garbage that a record names, that a pointer or a later artifact refers to, or that a running job uses. A job
counts as running while its lease is held (``lease``).
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from reasonembed import artifacts, lease, storage
from reasonembed.artifacts import LATEST, LEASE, RECORD, SCRATCH, Artifact
from reasonembed.errors import UserError

Kind = Literal["unfinished", "attempt", "scratch", "probe", "unreferenced"]
PROBE_PREFIX = ".probe-"
FINAL_STAGES = ("index", "evaluate")
"""Stages whose artifacts are results: they are not garbage although no later stage reads them."""


@dataclass(frozen=True)
class Garbage:
    """A folder or file that can be removed."""

    uri: str
    kind: Kind
    bytes: int


def find_garbage(root: str, unreferenced: bool = False, expiry_seconds: float = lease.EXPIRY_SECONDS) -> list[Garbage]:
    """Returns the garbage below a root.

    ``unfinished``: the folder of an artifact without a record. ``attempt``: data of an attempt that the record does not
    name. ``scratch``: scratch files of a finished artifact. ``probe``: files of checks that a root can be written.

    Args:
        root: ``run.root``.
        unreferenced: also returns finished artifacts that no result (``FINAL_STAGES``), no pointer and no artifact that
            a result was made from refers to.
        expiry_seconds: how long a held lease is observed before it counts as abandoned.
    """
    root = storage.absolute(root)
    entries: list[Garbage] = []
    finished: list[Artifact] = []
    for folder in _artifact_folders(root):
        if lease.is_held(storage.join(folder, LEASE), expiry_seconds):
            continue
        try:
            artifact = artifacts.load(folder)
        except UserError:
            continue  # a damaged record needs a person, who may be able to repair it
        if artifact is None:
            entries.append(_garbage(folder, "unfinished"))
            continue
        finished.append(artifact)
        for name in storage.list_folders(folder):
            if name == SCRATCH:
                entries.append(_garbage(storage.join(folder, name), "scratch"))
            elif name != LEASE and storage.join(folder, name) != artifact.uri:
                entries.append(_garbage(storage.join(folder, name), "attempt"))
    entries += [Garbage(uri, "probe", 0) for uri in _probes(root)]
    if unreferenced:
        references = _referenced(root, finished)
        entries += [_garbage(each.folder, "unreferenced") for each in finished if each.uri not in references]
    return entries


def remove(garbage: list[Garbage]) -> None:
    """Removes garbage; the record of an artifact first, so that an interrupted removal leaves no broken artifact."""
    for entry in garbage:
        if entry.kind == "probe":
            storage.delete_file(entry.uri)
            continue
        with suppress(FileNotFoundError):
            storage.delete_file(storage.join(entry.uri, RECORD))
        storage.delete_tree(entry.uri)


def _artifact_folders(root: str) -> Iterator[str]:
    for stage in storage.list_folders(root):
        if not stage.startswith("."):
            for fingerprint in storage.list_folders(storage.join(root, stage)):
                yield storage.join(root, stage, fingerprint)


def _probes(root: str) -> list[str]:
    return [storage.join(root, name) for name in storage.list_hidden_files(root) if name.startswith(PROBE_PREFIX)]


def _referenced(root: str, finished: list[Artifact]) -> set[str]:
    """Returns the URIs of results, of what pointers name, and of everything that these were made from."""
    pending = [each for each in finished if each.stage in FINAL_STAGES]
    by_uri = {each.uri: each for each in finished}
    for stage in storage.list_folders(root):
        with suppress(FileNotFoundError, ValueError, KeyError):
            pointer = json.loads(storage.read_bytes(storage.join(root, stage, LATEST)))
            pending += [by_uri[pointer["uri"]]]
    references: set[str] = set()
    while pending:
        artifact = pending.pop()
        if artifact.uri in references:
            continue
        references.add(artifact.uri)
        sources = (value["uri"] for value in artifact.record["inputs"].values() if isinstance(value, dict))
        pending += [by_uri[uri] for uri in sources if uri in by_uri]
    return references


def _garbage(uri: str, kind: Kind) -> Garbage:
    return Garbage(uri, kind, storage.tree_bytes(uri))
