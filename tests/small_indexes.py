"""Small index artifacts with random vectors, as the stage ``index`` writes them."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from reasonembed import storage
from reasonembed.artifacts import RECORD
from reasonembed.config import Encode, Index
from reasonembed.retrieval.bm25 import Bm25
from reasonembed.retrieval.index_files import (
    BM25_FOLDER,
    DOCUMENTS_FILE,
    INDEX_FILE,
    INDEXED_DOCUMENTS,
    shard_folder,
)
from reasonembed.retrieval.index_kinds import build_index

DIMENSION = 8


def index_record(name: str, finished: str = "2026-11-21T10:00:00Z", shard_rows: tuple[int, ...] = (3,)) -> dict:
    """Returns the record of an index without its files.

    Args:
        name: fingerprint, and folder of the attempt.
        finished: time at which it was finished.
        shard_rows: number of documents in each shard.
    """
    rows = sum(shard_rows)
    settings = {"index": Index(shards=len(shard_rows)).model_dump(), "encode": Encode().model_dump()}
    figures = {"rows": rows, "dimension": DIMENSION, "shards": len(shard_rows), "shard_rows": list(shard_rows)}
    return {
        "stage": "index",
        "fingerprint": name,
        "attempt": name,
        "finished": finished,
        "config": {"model": "maker/model", **settings},
        "inputs": {"model": "revision"},
        "figures": {**figures, "tasks": ["a"]},
        "files": [],
    }


def write_record(folder: Path, record: object) -> str:
    """Writes the record of an artifact, and returns the URI of the artifact."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD).write_text(json.dumps(record))
    return str(folder)


def write_index(folder: Path, shards: list[list[str]]) -> str:
    """Writes an index with all its files, and returns its URI.

    Args:
        folder: to write.
        shards: texts of the documents in each shard; their ids are their positions in the whole index.
    """
    texts = [text for shard in shards for text in shard]
    record = index_record(folder.name, shard_rows=tuple(map(len, shards)))
    vectors = np.random.default_rng(0).normal(size=(len(texts), DIMENSION))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    bm25, start = Bm25(texts), 0
    for number, shard in enumerate(shards):
        end, path = start + len(shard), folder / shard_folder(number)
        path.mkdir(parents=True)
        build_index(vectors[start:end], Index(), 0, path / INDEX_FILE)
        columns = [["a"] * len(shard), [str(position) for position in range(start, end)], shard]
        storage.write_table(pa.table(columns, schema=INDEXED_DOCUMENTS), str(path / DOCUMENTS_FILE))
        bm25.save(path / BM25_FOLDER, start, end)
        start = end
    record["files"] = [vars(storage.describe_file(str(folder), name)) for name in storage.list_files(str(folder))]
    return write_record(folder, record)
