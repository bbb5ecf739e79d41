"""The build of an index artifact, shard by shard. Every function here runs in one process; a stage distributes them."""

import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reasonembed import schemas, storage
from reasonembed.artifacts import Artifact
from reasonembed.config import Index, Resources
from reasonembed.embedder.prompts import document_text
from reasonembed.ids import text_id
from reasonembed.retrieval.bm25 import Bm25
from reasonembed.retrieval.collection import embedding_matrix
from reasonembed.retrieval.index_files import (
    BM25_FOLDER,
    DOCUMENTS_FILE,
    INDEX_FILE,
    INDEXED_DOCUMENTS,
    shard_folder,
)
from reasonembed.retrieval.index_kinds import build_index


@dataclass(frozen=True)
class IndexJob:
    """Inputs, settings and destination of an index; small enough to be sent to every worker."""

    corpus: Artifact
    """``schemas.CORPUS``."""
    embeddings: Artifact
    """``schemas.EMBEDDINGS`` of the whole corpus."""
    settings: Index
    seed: int
    uri: str
    """Of the artifact to write."""
    resources: Resources
    """Of one worker that builds or measures."""

    def shard_uri(self, shard: int) -> str:
        """Returns the URI of a shard's folder."""
        return storage.join(self.uri, shard_folder(shard))

    def shard_bounds(self) -> list[int]:
        """Returns the position of the first document of every shard, and the number of all documents."""
        edges = np.linspace(0, self.corpus.figures["rows"], self.settings.shards + 1)
        return [int(edge) for edge in edges.round()]

    def documents(self, shard: int | None = None) -> pa.Table:
        """Returns the ``INDEXED_DOCUMENTS`` of one shard, or of all: sorted by task, within a task as in the corpus."""
        corpus = self.corpus.table(schemas.CORPUS)
        order = np.argsort(np.array(corpus["task"].to_pylist(), dtype=object), kind="stable")
        if shard is not None:
            bounds = self.shard_bounds()
            order = order[bounds[shard] : bounds[shard + 1]]
        rows = corpus.take(order)
        titles, bodies = rows["title"].to_pylist(), rows["text"].to_pylist()
        texts = [document_text(title, body) for title, body in zip(titles, bodies, strict=True)]
        return pa.table([rows["task"], rows["doc_id"], texts], schema=INDEXED_DOCUMENTS)

    def vectors(self, documents: pa.Table) -> np.ndarray:
        """Returns the vectors of documents, (documents, dim) float32. One file of embeddings is in memory at a time.

        Args:
            documents: ``INDEXED_DOCUMENTS``.

        Raises:
            UserError: an embedding contains NaN or infinity.
        """
        text_ids = pa.array([text_id(text) for text in documents["text"].to_pylist()])
        matrix = np.zeros((len(documents), 0), np.float32)
        for file in self.embeddings.parquet():
            table = storage.read_table([file], schemas.EMBEDDINGS)
            embedding_rows = pc.index_in(text_ids, value_set=table["text_id"].combine_chunks())
            document_rows = np.flatnonzero(embedding_rows.is_valid().to_numpy(zero_copy_only=False))
            vectors = embedding_matrix(table)
            if not matrix.shape[1]:
                matrix = np.zeros((len(documents), vectors.shape[1]), np.float32)
            matrix[document_rows] = vectors[embedding_rows.drop_null().to_numpy()]
        return matrix


def build_shard(job: IndexJob, shard: int) -> None:
    """Writes the vector index and the documents of one shard."""
    documents = job.documents(shard)
    with tempfile.TemporaryDirectory(prefix="reasonembed-") as folder:
        vectors = job.vectors(documents)
        build_index(vectors, job.settings, job.seed, Path(folder) / INDEX_FILE, job.resources.device)
        storage.upload_tree(Path(folder), job.shard_uri(shard))
    storage.write_table(documents, storage.join(job.shard_uri(shard), DOCUMENTS_FILE))


def build_bm25(job: IndexJob) -> None:
    """Writes the BM25 weights of every shard. They are computed over all documents, so that a token weighs the same in
    every shard."""
    bm25 = Bm25(job.documents()["text"].to_pylist())
    for shard, (start, end) in enumerate(pairwise(job.shard_bounds())):
        with tempfile.TemporaryDirectory(prefix="reasonembed-") as folder:
            bm25.save(Path(folder), start, end)
            storage.upload_tree(Path(folder), storage.join(job.shard_uri(shard), BM25_FOLDER))
