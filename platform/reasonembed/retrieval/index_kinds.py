"""The registry of index kinds: the only place that reads ``index.kind``.

To add a kind, write one module with an ``IndexKind`` and add one line to ``INDEX_KINDS``.
"""

from pathlib import Path

import numpy as np

from reasonembed.config import Index
from reasonembed.retrieval.faiss_kinds import FLAT, HNSW, IVF, IVF_PQ
from reasonembed.retrieval.vector_index import IndexKind, VectorIndex

INDEX_KINDS: dict[str, IndexKind] = {
    "flat": FLAT,
    "ivf": IVF,
    "hnsw": HNSW,
    "ivf-pq": IVF_PQ,
}


def build_index(vectors: np.ndarray, settings: Index, seed: int, path: Path, device: str = "cpu") -> None:
    """Builds an index of the configured kind and writes it to a file.

    Args:
        vectors: (documents, dim) unit vectors; their order gives the positions.
        settings: the section ``index``.
        seed: of everything that is random.
        path: of the file to write.
        device: ``cpu`` or ``cuda``: where the index may be computed.

    Raises:
        UserError: the vectors or the device do not suit this kind of index.
    """
    vectors = np.ascontiguousarray(vectors, np.float32)
    _kind(settings).build(vectors, settings, seed, device).save(path)


def open_index(path: Path, settings: Index, device: str = "cpu") -> VectorIndex:
    """Opens an index that ``build_index`` wrote, memory-mapped.

    Args:
        path: of the file.
        settings: the section ``index`` that it was built with.
        device: ``cpu`` or ``cuda``: where searches run.

    Raises:
        UserError: the device does not exist or cannot search this kind of index.
    """
    return _kind(settings).open(path, settings, device)


def _kind(settings: Index) -> IndexKind:
    return INDEX_KINDS[settings.kind]
