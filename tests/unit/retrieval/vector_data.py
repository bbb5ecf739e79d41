"""Random unit vectors, and indexes of them in files, for the tests of vector indexes."""

import numpy as np

from reasonembed.retrieval.index_kinds import build_index, open_index
from reasonembed.retrieval.sharded_index import ShardedIndex


def unit_vectors():
    """Returns (3000, 16) float32 unit vectors, the same every time."""
    vectors = np.random.default_rng(0).normal(size=(3000, 16)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def built_index(vectors, folder, settings):
    """Builds the shards of an index in a folder and opens them as one."""
    for number, shard in enumerate(np.array_split(vectors, settings.shards)):
        build_index(shard, settings, 0, folder / f"{number}")
    return ShardedIndex([open_index(folder / f"{number}", settings) for number in range(settings.shards)])
