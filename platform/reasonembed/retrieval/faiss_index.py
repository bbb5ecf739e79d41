"""FAISS indexes of unit vectors by inner product: built on disk, opened memory-mapped, searched in parts."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa

from reasonembed import storage
from reasonembed.config import Index
from reasonembed.errors import UserError
from reasonembed.retrieval.gpu_index import GpuIndex, filled

DOCUMENTS = pa.schema([("task", pa.string()), ("doc_id", pa.string()), ("text", pa.string())])
INDEX_FILE, DOCUMENTS_FILE, BM25_FOLDER = "index.faiss", "documents.parquet", "bm25"
# FAISS asks for so many vectors to learn a centroid from; codes of eight bits have 256 of them.
POINTS_PER_CENTROID, CODES = 39, 256
FEW = 10_000

# Below this batch size FAISS's flat search leaves BLAS aside and is several times slower.
faiss.cvar.distance_compute_blas_threshold = 1


def build_index(vectors: np.ndarray, settings: Index, seed: int, path: Path, device: str = "cpu") -> None:
    """Write an index of (documents, dim) float32 unit vectors; positions are their order.

    Raises:
        UserError: there are too few of them to learn the codes of ``ivf-pq`` from; or FAISS has no such device.
    """
    vectors = np.ascontiguousarray(vectors, np.float32)
    index = _empty(len(vectors), vectors.shape[1], settings)
    rng = np.random.default_rng(seed)
    index = filled(index, vectors, lambda: vectors[rng.permutation(len(vectors))[: settings.training_vectors]], device)
    faiss.write_index(index, str(path))


def _empty(documents: int, dimension: int, settings: Index) -> faiss.Index:
    metric = faiss.METRIC_INNER_PRODUCT
    if settings.kind == "flat":
        return faiss.IndexFlatIP(dimension)
    if settings.kind == "hnsw":
        graph = faiss.IndexHNSWFlat(dimension, settings.links, metric)
        graph.hnsw.efConstruction = settings.ef_construction
        return graph
    most = max(1, min(documents, settings.training_vectors) // POINTS_PER_CENTROID)
    lists = min(settings.lists or round(4 * math.sqrt(documents)), most)
    if settings.kind == "ivf":
        return faiss.IndexIVFFlat(faiss.IndexFlatIP(dimension), dimension, lists, metric)
    if documents < CODES:
        raise UserError(
            f"index.kind ivf-pq learns {CODES} codes and a shard has {documents} documents only; take flat or hnsw"
        )
    codes = next(size for size in range(min(settings.pq_bytes, dimension), 0, -1) if dimension % size == 0)
    return faiss.IndexIVFPQ(faiss.IndexFlatIP(dimension), dimension, lists, codes, 8, metric)


def open_index(path: Path, device: str = "cpu") -> faiss.Index | GpuIndex:
    """
    Raises:
        UserError: FAISS has no such device, or the index cannot be there.
    """
    index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
    return index if device == "cpu" else GpuIndex(index)


class ShardedIndex:
    """Several indexes as one: the positions of a shard come behind those of the shards before it.

    Args:
        shards: of ``open_index``.
        settings: how far a search looks.
    """

    def __init__(self, shards: Sequence[faiss.Index | GpuIndex], settings: Index) -> None:
        self._shards = list(shards)
        self._settings = settings
        self._starts = np.cumsum([0, *(shard.ntotal for shard in shards)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Scores and positions, (queries, k) each, best first, of equal ones the lower position; -1 where none is left.

        Args:
            queries: (queries, dim) float32 unit vectors.
            k: how many.
            allowed: (documents,) True for those that may be found; all when left out.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        found = [self._search(number, queries, min(k, len(self)), allowed) for number in range(len(self._shards))]
        scores = np.concatenate([scores for scores, _ in found], axis=1)
        positions = np.concatenate([positions for _, positions in found], axis=1)
        scores[positions < 0] = -np.inf
        order = np.lexsort((positions, -scores), axis=1)[:, : min(k, len(self))]
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(positions, order, axis=1)

    def _search(
        self, number: int, queries: np.ndarray, k: int, allowed: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        shard, start, end = self._shards[number], self._starts[number], self._starts[number + 1]
        here = None if allowed is None else allowed[start:end]
        if here is not None and isinstance(shard, faiss.IndexHNSW) and here.sum() <= max(FEW, shard.ntotal // 10):
            scores, positions = _among(shard, queries, k, np.flatnonzero(here))
        else:
            scores, positions = shard.search(queries, k, params=self._parameters(here))
        return scores, np.where(positions < 0, -1, positions + start)

    def _parameters(self, allowed: np.ndarray | None) -> Any:
        options = {} if allowed is None else {"sel": faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))}  # type: ignore[arg-type, call-arg]
        if self._settings.kind in ("ivf", "ivf-pq"):
            return faiss.SearchParametersIVF(nprobe=self._settings.probes, **options)  # type: ignore[call-arg]
        if self._settings.kind == "hnsw":
            return faiss.SearchParametersHNSW(efSearch=self._settings.ef_search, **options)  # type: ignore[attr-defined]
        return faiss.SearchParameters(**options)


def _among(shard: faiss.Index, queries: np.ndarray, k: int, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Exact search among few documents. A walk through the graph would meet hardly any of them."""
    scores = np.full((len(queries), k), -np.inf, np.float32)
    positions = np.full((len(queries), k), -1, np.int64)
    if len(allowed):
        found = queries @ shard.reconstruct_batch(allowed).T
        order = np.argsort(-found, axis=1, kind="stable")[:, :k]
        scores[:, : order.shape[1]] = np.take_along_axis(found, order, axis=1)
        positions[:, : order.shape[1]] = allowed[order]
    return scores, positions


def shard_folder(shard: int) -> str:
    """Of an index artefact."""
    return f"shard-{shard:05d}"


def open_shards(uri: str, settings: Index) -> ShardedIndex:
    """All shards of an index artefact, memory-mapped (of a copy, when they are on S3)."""
    with storage.local_copy(uri, lambda name: name.endswith(INDEX_FILE)) as folder:
        return ShardedIndex([open_index(path) for path in sorted(folder.glob(f"shard-*/{INDEX_FILE}"))], settings)
