"""Measurement of a built index: its size, and its recall against exact search."""

from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow.compute as pc

from reasonembed import storage
from reasonembed.retrieval.exact import ExactScorer
from reasonembed.retrieval.index_files import INDEX_FILE
from reasonembed.retrieval.index_job import IndexJob
from reasonembed.retrieval.sharded_index import open_shards

NEIGHBOURS = 10


def measure_index(job: IndexJob) -> dict[str, Any]:
    """Returns the figures of an index whose shards are all built.

    ``recall@10`` takes a sample of documents as queries: it is the share of their ten nearest other texts, by exact
    search, that are among the results of the index. Copies of a text count as one.

    Returns:
        ``rows``, ``tasks``, ``dimension``, ``shards``, ``shard_rows``, ``bytes`` of the vector indexes, ``recall@10``.
    """
    index = open_shards(job.uri, job.settings)
    documents = job.documents()
    sample = np.sort(np.random.default_rng(job.seed).permutation(len(index))[: job.settings.recall_sample])
    queries = job.vectors(documents.take(sample))
    k = min(NEIGHBOURS + 1, len(index))  # one more: the nearest text of a document is its own, which does not count
    _, results = index.search(queries, k)
    neighbours = _exact_neighbours(job, queries, k)
    numbers: dict[str, int] = {}
    text_numbers = np.array([numbers.setdefault(text, len(numbers)) for text in documents["text"].to_pylist()])
    hits = total = 0
    for own, exact, retrieved in zip(text_numbers[sample], text_numbers[neighbours], results, strict=True):
        relevant = set(exact) - {own}
        hits += len(relevant & set(text_numbers[retrieved[retrieved >= 0]]))
        total += len(relevant)
    names = [name for name in storage.list_files(job.uri) if name.endswith(INDEX_FILE)]
    return {
        "rows": len(index),
        "tasks": pc.unique(documents["task"]).to_pylist(),
        "dimension": int(queries.shape[1]),
        "shards": job.settings.shards,
        "shard_rows": [end - start for start, end in pairwise(job.shard_bounds())],
        "bytes": sum(storage.size(storage.join(job.uri, name)) for name in names),
        f"recall@{NEIGHBOURS}": round(hits / max(1, total), 4),
    }


def _exact_neighbours(job: IndexJob, queries: np.ndarray, k: int) -> np.ndarray:
    """Returns the positions of the k documents with the highest inner products, (queries, k). The vectors of one shard
    are in memory at a time."""
    scores, positions = np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
    start = 0
    for shard in range(job.settings.shards):
        documents = job.documents(shard)
        exact = ExactScorer(job.vectors(documents), documents["text"].to_pylist(), job.resources.device)
        shard_positions = np.tile(np.arange(start, start + len(documents)), (len(queries), 1))
        scores = np.concatenate([scores, exact(queries)], axis=1)
        positions = np.concatenate([positions, shard_positions], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        scores, positions = np.take_along_axis(scores, order, axis=1), np.take_along_axis(positions, order, axis=1)
        start += len(documents)
    return positions
