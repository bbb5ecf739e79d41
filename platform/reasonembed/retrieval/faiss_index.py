"""The FAISS index that is served: exact inner product, with documents beside it in the order of the vectors."""

from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa

INDEX_FILE, DOCUMENTS_FILE = "index.faiss", "documents.parquet"
DOCUMENTS = pa.schema([("task", pa.string()), ("doc_id", pa.string()), ("text", pa.string())])

# Below this batch size FAISS's flat search leaves BLAS aside and is several times slower.
faiss.cvar.distance_compute_blas_threshold = 1


def build_index(vectors: np.ndarray, path: Path) -> None:
    """Write a flat inner-product index of (documents, dim) float32 unit vectors."""
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors, np.float32))
    faiss.write_index(index, str(path))


def open_index(path: Path) -> faiss.Index:
    return faiss.read_index(str(path), faiss.IO_FLAG_MMAP)


def search(
    index: faiss.Index, queries: np.ndarray, k: int, allowed: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Scores and positions, (queries, k) each, best first; -1 where nothing is left.

    Args:
        index: of ``open_index``.
        queries: (queries, dim) float32 unit vectors.
        k: how many.
        allowed: positions that may be found; all when left out.
    """
    parameters = None
    if allowed is not None:
        parameters = faiss.SearchParameters(sel=faiss.IDSelectorBatch(allowed.astype(np.int64)))  # type: ignore[call-arg]
    k = min(k, index.ntotal)
    scores, positions = index.search(np.ascontiguousarray(queries, np.float32), k, params=parameters)
    return scores, positions
