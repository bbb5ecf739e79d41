"""Several vector indexes that are searched as one."""

from collections.abc import Sequence

import numpy as np

from reasonembed import storage
from reasonembed.config import Index
from reasonembed.retrieval.index_files import INDEX_FILE
from reasonembed.retrieval.index_kinds import open_index
from reasonembed.retrieval.vector_index import VectorIndex


class ShardedIndex:
    """The shards of an index as one index: positions in a shard follow those in the shards before it.

    Args:
        shards: in order, at least one; all of one dimension.
    """

    def __init__(self, shards: Sequence[VectorIndex]) -> None:
        self._shards = list(shards)
        self._starts = np.cumsum([0, *(len(shard) for shard in shards)])

    def __len__(self) -> int:
        """Returns the number of vectors."""
        return int(self._starts[-1])

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self._shards[0].dimension

    def search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Returns the best vectors of all shards for every query; equal scores are in order of position.

        Args:
            queries: (queries, dim) float32 unit vectors.
            k: number of results per query.
            allowed: (vectors,) bool, True where a vector may be returned; None allows all.

        Returns:
            Scores (float32) and positions (int64), (queries, min(k, vectors)) each, best first. Where fewer vectors
            are allowed, the position is -1 and the score is minus infinity.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        k = min(k, len(self))
        results = [self._search_shard(shard, queries, k, allowed) for shard in range(len(self._shards))]
        scores, positions = (np.concatenate(parts, axis=1) for parts in zip(*results, strict=True))
        scores[positions < 0] = -np.inf
        order = np.lexsort((positions, -scores), axis=1)[:, :k]
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(positions, order, axis=1)

    def _search_shard(
        self, shard: int, queries: np.ndarray, k: int, allowed: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns scores and positions in the whole index, (queries, k) each, of one shard."""
        start, end = self._starts[shard], self._starts[shard + 1]
        allowed_in_shard = None if allowed is None else allowed[start:end]
        scores, positions = self._shards[shard].search(queries, k, allowed_in_shard)
        return scores, np.where(positions < 0, -1, positions + start)


def open_shards(uri: str, settings: Index) -> ShardedIndex:
    """Opens all shards of an index artifact on the CPU, memory-mapped; shards on S3 are copied to this machine first.

    Args:
        uri: of the artifact.
        settings: the section ``index`` that it was built with.
    """
    with storage.local_copy(uri, lambda name: name.endswith(INDEX_FILE)) as folder:
        paths = sorted(folder.glob(f"shard-*/{INDEX_FILE}"))
        return ShardedIndex([open_index(path, settings) for path in paths])
