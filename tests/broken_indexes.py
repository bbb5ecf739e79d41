"""Indexes that an endpoint must reject."""

import json
import shutil

import faiss
import numpy as np

from reasonembed import storage


def write_broken_indexes(index, folder):
    """Yields folders: one without a record, and copies of an index with one fault each.

    The faults are a truncated file, vectors that no model gave, and a wrong length of vectors in the record.

    Args:
        index: artifact to copy.
        folder: where the copies are written.
    """
    yield folder / "nothing"
    for name in ("truncated", "noise", "dimension"):
        copy = folder / "index" / name / index.record["attempt"]
        shutil.copytree(index.uri, copy)
        record = json.loads((copy / "_artifact.json").read_text())
        record["fingerprint"] = name
        file = copy / "shard-00000" / "index.faiss"
        if name == "truncated":
            file.write_bytes(file.read_bytes()[:-100])
        elif name == "noise":
            _write_noise(copy, record)
        else:
            record["figures"]["dimension"] += 1
        (copy / "_artifact.json").write_text(json.dumps(record))
        yield copy


def _write_noise(folder, record):
    """Replaces all vectors by random ones, and describes the new files in the record."""
    for file in folder.glob("shard-*/index.faiss"):
        index = faiss.read_index(str(file))
        noise = faiss.IndexFlatIP(index.d)
        noise.add(np.random.default_rng(0).normal(size=(index.ntotal, index.d)).astype(np.float32))
        faiss.write_index(noise, str(file))
    for entry in record["files"]:
        entry.update(vars(storage.describe_file(str(folder), entry["path"])))
