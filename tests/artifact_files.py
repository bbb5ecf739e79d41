"""Artifacts that tests write themselves, without a pipeline."""

import json
from pathlib import Path

import pyarrow as pa

from reasonembed import artifacts, storage
from reasonembed.artifacts import Artifact


def write_artifact(
    folder: Path,
    *tables: pa.Table,
    stage: str = "",
    inputs: dict[str, Artifact] | None = None,
    config: dict | None = None,
    figures: dict | None = None,
) -> Artifact:
    """Writes tables, and the record of an artifact of all files in the folder; returns the artifact."""
    for number, table in enumerate(tables):
        storage.write_table(table, str(folder / f"part-{number}.parquet"))
    record = {
        "stage": stage or folder.name,
        "fingerprint": folder.name,
        "attempt": folder.name,
        "config": config or {},
        "inputs": {
            name: {"uri": artifact.uri, "fingerprint": artifact.fingerprint}
            for name, artifact in (inputs or {}).items()
        },
        "figures": {"rows": sum(len(table) for table in tables)} | (figures or {}),
        "files": [vars(storage.describe_file(str(folder), name)) for name in storage.list_files(str(folder))],
    }
    storage.write_bytes(str(folder / artifacts.RECORD), json.dumps(record).encode())
    artifact = artifacts.load(str(folder))
    assert artifact is not None
    return artifact
