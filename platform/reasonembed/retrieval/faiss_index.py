"""Vector indexes on FAISS: built in memory, opened memory-mapped, searched on the CPU or on a GPU."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from reasonembed.config import Index
from reasonembed.errors import UserError
from reasonembed.retrieval.faiss_gpu import GpuCopy, GpuSupport, build_on_gpu

# A filtered search among at most this many documents, or a tenth of all, compares the query with each of them.
SCAN_LIMIT = 10_000

# For batches below this size FAISS's flat search does not use BLAS and is several times slower.
faiss.cvar.distance_compute_blas_threshold = 1


@dataclass(frozen=True)
class FaissKind:
    """Specification of an index kind that FAISS implements; an ``IndexKind``."""

    name: str
    """The value of ``index.kind``."""
    create: Callable[[int, int, Index], faiss.Index]
    """(documents, dimension, settings) to an empty index."""
    parameters: Callable[..., Any]
    """(settings, and ``sel`` for a filtered search) to FAISS's parameters of one search."""
    gpu: GpuSupport | None
    """None: this kind cannot be on a GPU."""
    scans_small_subsets: bool = False
    """Whether a search among few allowed documents compares the query with each of them instead of using the index."""

    def build(self, vectors: np.ndarray, settings: Index, seed: int, device: str) -> "FaissIndex":
        """Returns an index of the vectors; see ``IndexKind.build``. What FAISS cannot build on a GPU is built on the
        CPU."""
        rng = np.random.default_rng(seed)

        def fill(index: Any) -> None:
            if not index.is_trained:
                index.train(vectors[rng.permutation(len(vectors))[: settings.training_vectors]])
            index.add(vectors)

        index = self.create(len(vectors), vectors.shape[1], settings)
        if device != "cpu" and self.gpu is not None and self.gpu.builds:
            index = build_on_gpu(index, fill, self.gpu)
        else:
            fill(index)
        return FaissIndex(index, self, settings)

    def open(self, path: Path, settings: Index, device: str) -> "FaissIndex":
        """Opens an index file, memory-mapped; see ``IndexKind.open``."""
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
        return FaissIndex(index, self, settings, device)


class FaissIndex:
    """A FAISS index that is searched by inner product; a ``VectorIndex``.

    Args:
        index: the FAISS index in the memory of the CPU, or memory-mapped.
        kind: its specification.
        settings: the section ``index``; its search parameters apply to every search.
        device: ``cpu`` or ``cuda``. With ``cuda`` a copy in the memory of the GPU answers what its kernels can
            answer, and the index on the CPU the rest, with the same results.

    Raises:
        UserError: FAISS has no GPU, or this kind cannot be on one.
    """

    def __init__(self, index: faiss.Index, kind: FaissKind, settings: Index, device: str = "cpu") -> None:
        self._index, self._kind, self._settings = index, kind, settings
        self._gpu_copy: GpuCopy | None = None
        if device != "cpu":
            if kind.gpu is None:
                raise UserError(
                    f"index.kind {kind.name} cannot be on a GPU: set index.kind to flat, ivf or ivf-pq, or search it "
                    "on CPUs"
                )
            self._gpu_copy = GpuCopy(index, kind.gpu)

    def __len__(self) -> int:
        """Returns the number of vectors."""
        return int(self._index.ntotal)

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self._index.d)

    def search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Returns the scores and positions of the best vectors; see ``VectorIndex.search``."""
        if allowed is None:
            parameters = self._kind.parameters(self._settings)
            if self._gpu_copy is not None and self._gpu_copy.can_search(k, parameters):
                return self._gpu_copy.search(queries, k, parameters)
        else:
            if self._kind.scans_small_subsets and allowed.sum() <= max(SCAN_LIMIT, len(self) // 10):
                return self._scan(queries, k, np.flatnonzero(allowed))
            selector = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))  # type: ignore[arg-type, call-arg]
            parameters = self._kind.parameters(self._settings, sel=selector)
        return self._index.search(queries, k, params=parameters)  # type: ignore[no-any-return]

    def save(self, path: Path) -> None:
        """Writes the index, which must not be memory-mapped, in FAISS's own format."""
        faiss.write_index(self._index, str(path))

    def _scan(self, queries: np.ndarray, k: int, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Exact search among few documents. A walk through a graph would reach hardly any of them.

        Args:
            queries: (queries, dim) float32.
            k: number of results per query.
            allowed: positions of the documents to compare with.
        """
        scores = np.full((len(queries), k), -np.inf, np.float32)
        positions = np.full((len(queries), k), -1, np.int64)
        if len(allowed):
            all_scores = queries @ self._index.reconstruct_batch(allowed).T
            order = np.argsort(-all_scores, axis=1, kind="stable")[:, :k]
            scores[:, : order.shape[1]] = np.take_along_axis(all_scores, order, axis=1)
            positions[:, : order.shape[1]] = allowed[order]
        return scores, positions
