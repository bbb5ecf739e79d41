"""Replica of a deployment ``shard-N``, which holds a part of an index that is too large for one machine."""

import faiss

from reasonembed.serving.index_store import LocalStore


class ShardReplica(LocalStore):
    """Holds an equal share of the shards of each index, and searches them.

    Args:
        process: number of this deployment, from 0.
        processes: number of such deployments.
        device: ``cpu`` or ``cuda``.
    """

    def __init__(self, process: int, processes: int, device: str) -> None:
        search_with_one_thread()
        super().__init__(process, processes, device)


def search_with_one_thread() -> None:
    """Lets FAISS use one thread per search. Many searches run side by side; with more threads they block each other."""
    faiss.omp_set_num_threads(1)
