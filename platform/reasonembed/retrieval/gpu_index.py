"""FAISS indexes in a GPU's memory.

What FAISS has no kernels for stays on the CPU: a graph (``hnsw``) altogether, and of the others a search among some
documents only, or for more neighbours than the kernels keep.
"""

import threading
from collections.abc import Callable
from typing import Any

import faiss
import numpy as np

from reasonembed.errors import UserError

MOST = 2048
"""Neighbours, and lists of ``ivf``, that the kernels keep of a query."""
_LISTS = (faiss.IndexIVFFlat, faiss.IndexIVFPQ)


class GpuIndex:
    """An index that searches on the GPU where that can be done, and where it cannot as the index on the CPU would.

    Args:
        index: on the CPU, memory-mapped or not; it is kept.

    Raises:
        UserError: there is no GPU for FAISS, or no way to search this kind of index on it.
    """

    def __init__(self, index: faiss.Index) -> None:
        self._on_cpu = index
        self._resources, self._on_gpu = to_gpu(index)
        self._lock = threading.Lock()  # FAISS's memory for work on a GPU is one thread's at a time

    @property
    def ntotal(self) -> int:
        return int(self._on_cpu.ntotal)

    def search(self, queries: np.ndarray, k: int, params: Any) -> tuple[np.ndarray, np.ndarray]:
        """As ``faiss.Index.search``."""
        probes = getattr(params, "nprobe", 0)
        if params.sel is not None or max(k, probes) > MOST:
            return self._on_cpu.search(queries, k, params=params)  # type: ignore[no-any-return]
        with self._lock:
            # The flat index has no parameters on a GPU and refuses any.
            return self._on_gpu.search(queries, k, params=params if probes else None)  # type: ignore[no-any-return]


def to_gpu(index: faiss.Index) -> tuple[Any, Any]:
    """FAISS's memory for work on this process's GPU, which must outlive the copy; and the copy.

    Raises:
        UserError: there is no GPU for FAISS, or the kind of index cannot be there.
    """
    if isinstance(index, faiss.IndexHNSW):
        raise UserError("index.kind hnsw cannot be on a GPU: take flat, ivf or ivf-pq, or search it on CPUs")
    if not hasattr(faiss, "StandardGpuResources"):
        raise UserError(
            "a GPU is asked for, and this build of FAISS knows none: install faiss-gpu-cu12 instead of faiss-cpu"
        )
    if not faiss.get_num_gpus():
        raise UserError("a GPU is asked for, and FAISS sees none in this process")
    resources, options = faiss.StandardGpuResources(), faiss.GpuClonerOptions()
    # Tables of more than 48 bytes a vector fit into a kernel's memory in half precision only; vectors stay whole.
    options.useFloat16 = isinstance(index, faiss.IndexIVFPQ)
    return resources, faiss.index_cpu_to_gpu(resources, 0, index, options)


def filled(index: faiss.Index, vectors: np.ndarray, sample: Callable[[], np.ndarray], device: str) -> faiss.Index:
    """An empty index with vectors in it, on the CPU; learning and sorting into lists happen on ``device``.

    Args:
        index: it may be filled itself.
        vectors: (documents, dim).
        sample: (some, dim) of them, for an index that learns lists and codes.
        device: ``cpu`` or ``cuda``.
    """
    moved = device != "cpu" and isinstance(index, _LISTS)
    resources, worker = to_gpu(index) if moved else (None, index)
    if not worker.is_trained:
        worker.train(sample())
    worker.add(vectors)
    result = faiss.index_gpu_to_cpu(worker) if moved else worker
    del worker, resources  # in this order: a copy on a GPU works with them to its end
    return result
