"""The stage ``index``: a FAISS index and the documents beside it, shard by shard, and how well it finds."""

import tempfile
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reasonembed import schemas, storage
from reasonembed.artifacts import SCRATCH, Artifact
from reasonembed.config import Index, Resources
from reasonembed.distributed.cluster import run_all, run_remote
from reasonembed.embedder.prompts import document_text
from reasonembed.ids import text_id
from reasonembed.retrieval.bm25 import Bm25
from reasonembed.retrieval.collection import vectors_of
from reasonembed.retrieval.exact import ExactScores
from reasonembed.retrieval.faiss_index import (
    BM25_FOLDER,
    DOCUMENTS,
    DOCUMENTS_FILE,
    INDEX_FILE,
    build_index,
    open_shards,
    shard_folder,
)

NEIGHBOURS = 10


@dataclass(frozen=True)
class IndexJob:
    """What the work on every shard needs."""

    corpus: Artifact
    embeddings: Artifact
    settings: Index
    seed: int
    uri: str
    place: Resources

    def folder(self, shard: int) -> str:
        return storage.join(self.uri, shard_folder(shard))

    def documents(self, shard: int | None = None) -> pa.Table:
        """``DOCUMENTS`` of one shard, or of all: task by task in the order of the names, then as in the corpus."""
        corpus = self.corpus.table(schemas.CORPUS)
        order = np.argsort(np.array(corpus["task"].to_pylist(), dtype=object), kind="stable")
        if shard is not None:
            bounds = self.bounds()
            order = order[bounds[shard] : bounds[shard + 1]]
        rows = corpus.take(order)
        texts = [document_text(a, b) for a, b in zip(rows["title"].to_pylist(), rows["text"].to_pylist(), strict=True)]
        return pa.table([rows["task"], rows["doc_id"], texts], schema=DOCUMENTS)

    def bounds(self) -> list[int]:
        """Where the shards begin, and where the last one ends."""
        edges = np.linspace(0, self.corpus.figures["rows"], self.settings.shards + 1)
        return [int(edge) for edge in edges.round()]

    def vectors(self, documents: pa.Table) -> np.ndarray:
        """(documents, dim) float32; of the embeddings one file is in memory at a time."""
        wanted = pa.array([text_id(text) for text in documents["text"].to_pylist()])
        matrix = np.zeros((len(documents), 0), np.float32)
        for file in self.embeddings.parquet():
            table = storage.read_table([file], schemas.EMBEDDINGS)
            place = pc.index_in(wanted, value_set=table["text_id"].combine_chunks())
            rows = np.flatnonzero(place.is_valid().to_numpy(zero_copy_only=False))
            found = vectors_of(table)
            if not matrix.shape[1]:
                matrix = np.zeros((len(documents), found.shape[1]), np.float32)
            matrix[rows] = found[place.drop_null().to_numpy()]
        return matrix


def build_served_index(job: IndexJob) -> dict[str, Any]:
    """Build all shards, those of an interrupted run excepted, and measure recall@10 against exact search."""
    if job.settings.shards > job.corpus.figures["rows"]:
        job = replace(job, settings=job.settings.model_copy(update={"shards": 1}))
    shards = range(job.settings.shards)
    missing = [shard for shard in shards if not storage.exists(_done(job, shard_folder(shard)))]
    run_all(_build_shard, [(job, shard) for shard in missing], job.place)
    if job.settings.bm25 and not storage.exists(_done(job, BM25_FOLDER)):
        run_remote(_weigh_words, job)
    return dict(run_remote(_measure, job, place=job.place))


def _done(job: IndexJob, part: str) -> str:
    return storage.join(job.uri, SCRATCH, f"{part}.done")


def _build_shard(job: IndexJob, shard: int) -> None:
    documents = job.documents(shard)
    with tempfile.TemporaryDirectory(prefix="reasonembed-") as folder:
        vectors = job.vectors(documents)
        build_index(vectors, job.settings, job.seed, Path(folder) / INDEX_FILE, job.place.device)
        storage.upload_tree(Path(folder), job.folder(shard))
    storage.write_table(documents, storage.join(job.folder(shard), DOCUMENTS_FILE))
    storage.write_bytes(_done(job, shard_folder(shard)), b"")


def _weigh_words(job: IndexJob) -> None:
    """BM25 of all documents, in parts that lie beside the shards: a word weighs the same in each."""
    whole = Bm25(job.documents()["text"].to_pylist())
    for shard, (start, end) in enumerate(pairwise(job.bounds())):
        with tempfile.TemporaryDirectory(prefix="reasonembed-") as folder:
            whole.save(Path(folder), start, end)
            storage.upload_tree(Path(folder), storage.join(job.folder(shard), BM25_FOLDER))
    storage.write_bytes(_done(job, BM25_FOLDER), b"")


def _measure(job: IndexJob) -> dict[str, Any]:
    """Figures: rows, dimension, shards, bytes, and the share of a sample's ten nearest texts that the index finds."""
    index = open_shards(job.uri, job.settings)
    documents = job.documents()
    chosen = np.sort(np.random.default_rng(job.seed).permutation(len(index))[: job.settings.recall_sample])
    queries = job.vectors(documents.take(chosen))
    k = min(NEIGHBOURS + 1, len(index))  # a document is its own nearest, and does not count
    _, approximate = index.search(queries, k)
    exact = _exact_neighbours(job, queries, k)
    numbers: dict[str, int] = {}
    text_of = np.array([numbers.setdefault(text, len(numbers)) for text in documents["text"].to_pylist()])
    hits = total = 0
    for own, near, found in zip(text_of[chosen], text_of[exact], approximate, strict=True):
        wanted = set(near) - {own}
        hits += len(wanted & set(text_of[found[found >= 0]]))
        total += len(wanted)
    names = [name for name in storage.list_files(job.uri) if name.endswith(INDEX_FILE)]
    return {
        "rows": len(index),
        "tasks": pc.unique(documents["task"]).to_pylist(),
        "dimension": int(queries.shape[1]),
        "shards": job.settings.shards,
        "shard_rows": [end - start for start, end in pairwise(job.bounds())],
        "bytes": sum(storage.size(storage.join(job.uri, name)) for name in names),
        f"recall@{NEIGHBOURS}": round(hits / max(1, total), 4),
    }


def _exact_neighbours(job: IndexJob, queries: np.ndarray, k: int) -> np.ndarray:
    """(queries, k) positions, with the vectors of one shard in memory at a time."""
    scores, places = np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
    start = 0
    for shard in range(job.settings.shards):
        documents = job.documents(shard)
        exact = ExactScores(job.vectors(documents), documents["text"].to_pylist(), job.place.device)
        here = np.tile(np.arange(start, start + len(documents)), (len(queries), 1))
        scores = np.concatenate([scores, exact(queries)], axis=1)
        places = np.concatenate([places, here], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        scores, places = np.take_along_axis(scores, order, axis=1), np.take_along_axis(places, order, axis=1)
        start += len(documents)
    return places
