"""Copies of FAISS indexes in the memory of this process's GPU.

FAISS has no GPU kernels for some work, which stays on the CPU: the graph of ``hnsw`` altogether, and for the other
kinds a filtered search, and a search for more neighbours than the kernels can return.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from reasonembed.errors import UserError

KERNEL_LIMIT = 2048
"""Largest number of neighbours per query, and of probed lists, that FAISS's GPU kernels support."""


@dataclass(frozen=True)
class GpuSupport:
    """What FAISS's GPU kernels can do for a kind of index."""

    builds: bool = True
    """The index is trained and filled on the GPU."""
    takes_parameters: bool = True
    """A search accepts parameters; otherwise FAISS rejects any."""
    half_precision_tables: bool = False
    """Lookup tables are in half precision; the vectors stay in single precision."""


class GpuCopy:
    """A copy of a FAISS index on the GPU.

    Args:
        index: the index on the CPU.
        support: what the kernels can do for its kind.

    Raises:
        UserError: FAISS has no GPU.
    """

    def __init__(self, index: faiss.Index, support: GpuSupport) -> None:
        # FAISS's resources must outlive the copy, which uses them in every search.
        self._resources, self._index = _to_gpu(index, support)
        self._support = support
        self._lock = threading.Lock()  # the resources may be used by one thread at a time

    def can_search(self, k: int, parameters: Any) -> bool:
        """Returns whether the kernels support a search for k neighbours with these parameters."""
        return max(k, getattr(parameters, "nprobe", 0)) <= KERNEL_LIMIT

    def search(self, queries: np.ndarray, k: int, parameters: Any) -> tuple[np.ndarray, np.ndarray]:
        """Returns scores and positions, as ``faiss.Index.search`` does."""
        with self._lock:
            accepted = parameters if self._support.takes_parameters else None
            return self._index.search(queries, k, params=accepted)  # type: ignore[no-any-return]


def build_on_gpu(index: faiss.Index, fill: Callable[[Any], None], support: GpuSupport) -> faiss.Index:
    """Fills an empty index on the GPU.

    Args:
        index: an empty index on the CPU.
        fill: trains an index and adds the vectors to it.
        support: what the kernels can do for its kind.

    Returns:
        The filled index, on the CPU.

    Raises:
        UserError: FAISS has no GPU.
    """
    resources, on_gpu = _to_gpu(index, support)
    fill(on_gpu)
    filled = faiss.index_gpu_to_cpu(on_gpu)
    del on_gpu, resources  # in this order: the copy uses the resources until it is gone
    return filled


def _to_gpu(index: faiss.Index, support: GpuSupport) -> tuple[Any, Any]:
    """Returns FAISS's GPU resources and the copy of the index that uses them."""
    if not hasattr(faiss, "StandardGpuResources"):
        raise UserError(
            "a GPU is configured for the index, but this build of FAISS has no GPU support: install faiss-gpu-cu12 "
            "instead of faiss-cpu"
        )
    if not faiss.get_num_gpus():
        raise UserError("a GPU is configured for the index, but FAISS sees none in this process")
    resources, options = faiss.StandardGpuResources(), faiss.GpuClonerOptions()
    options.useFloat16 = support.half_precision_tables
    return resources, faiss.index_cpu_to_gpu(resources, 0, index, options)
