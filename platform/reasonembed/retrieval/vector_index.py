"""The protocols of vector indexes: what an index can do, and what a kind of index has to provide."""

from pathlib import Path
from typing import Protocol

import numpy as np

from reasonembed.config import Index


class VectorIndex(Protocol):
    """Unit vectors that are searched by inner product.

    The position of a vector, in order of insertion, identifies it.
    """

    def __len__(self) -> int:
        """Returns the number of vectors."""
        ...

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    def search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Returns the best vectors for every query.

        Args:
            queries: (queries, dim) float32 unit vectors.
            k: number of results per query; may exceed the number of vectors.
            allowed: (vectors,) bool, True where a vector may be returned; None allows all.

        Returns:
            Scores (float32) and positions (int64), (queries, k) each, best first. Where fewer than k vectors are
            left, the position is -1.
        """
        ...

    def save(self, path: Path) -> None:
        """Writes the index as one file, which the ``open`` of its kind reads.

        Only an index that ``IndexKind.build`` returned can be saved: a memory-mapped one may refer to its own file.
        """
        ...


class IndexKind(Protocol):
    """One kind of vector index: a value of ``index.kind``, registered in ``index_kinds.INDEX_KINDS``."""

    def build(self, vectors: np.ndarray, settings: Index, seed: int, device: str) -> VectorIndex:
        """Returns an index of the vectors, in the memory of the CPU.

        Args:
            vectors: (documents, dim) float32 unit vectors, contiguous.
            settings: the section ``index``.
            seed: of everything that is random.
            device: ``cpu`` or ``cuda``: where the index may be computed.

        Raises:
            UserError: the vectors or the device do not suit this kind of index.
        """
        ...

    def open(self, path: Path, settings: Index, device: str) -> VectorIndex:
        """Opens a saved index, memory-mapped.

        Args:
            path: a file that ``VectorIndex.save`` wrote.
            settings: the section ``index`` that it was built with; its search parameters apply to every search.
            device: ``cpu`` or ``cuda``: where searches run.

        Raises:
            UserError: the device does not exist or cannot search this kind of index.
        """
        ...
