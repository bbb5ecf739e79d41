"""Stage 2: candidates for every query, without the query's source document and its near-duplicates."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from reasonembed import ids, schemas
from reasonembed.config import Mine
from reasonembed.retrieval.collection import Collection
from reasonembed.retrieval.fusion import fuse_scores, min_max, top_k


@dataclass(frozen=True)
class DenseRetriever:
    """A dense retriever over all tasks.

    Args:
        name: for the ``retriever`` column.
        collections: the documents by task, with this model's vectors.
        encode: texts to (texts, dim) unit vectors, with the same model.
    """

    name: str
    collections: Mapping[str, Collection]
    encode: Callable[[Sequence[str]], np.ndarray]


def mine_candidates(queries: pa.Table, retrievers: Sequence[DenseRetriever], config: Mine) -> pa.Table:
    """Returns ``config.keep`` candidates per query, best first, in the order of the queries.

    The score is the weighted sum of BM25 and of the mean of the dense retrievers' scores, each scaled to [0, 1]. A
    document whose cosine to the source is at least ``config.near_duplicate`` for any retriever is no candidate.

    Args:
        queries: ``schemas.QUERIES``, accepted rows only.
        retrievers: at least one.
        config: of the stage.

    Returns:
        ``schemas.CANDIDATES``.
    """
    name = f"bm25:{config.lexical_weight:g}+" + "+".join(
        f"{retriever.name}:{(1 - config.lexical_weight) / len(retrievers):g}" for retriever in retrievers
    )
    rows = queries.to_pylist()
    vectors = [retriever.encode([row["query"] for row in rows]) for retriever in retrievers]
    candidates = []
    for number, row in enumerate(rows):
        collections = [retriever.collections[row["task"]] for retriever in retrievers]
        collection = collections[0]
        dense = [each.vectors @ vector[number] for each, vector in zip(collections, vectors, strict=True)]
        mean = dense[0] if len(dense) == 1 else np.mean([min_max(scores) for scores in dense], axis=0)
        scores = fuse_scores(mean, collection.bm25_split_names.scores(row["query"]), config.lexical_weight)
        duplicates = [each.near_duplicates(row["source_doc_id"], config.near_duplicate) for each in collections]
        best = top_k(scores, config.keep, np.unique(np.concatenate(duplicates)))
        for rank, position in enumerate(best, start=1):
            doc_id = collection.doc_ids[position]
            candidates.append(
                {
                    "pair_id": ids.pair_id(row["query_id"], doc_id),
                    "query_id": row["query_id"],
                    "doc_id": doc_id,
                    "rank": rank,
                    "score": float(scores[position]),
                    "retriever": name,
                }
            )
    return pa.Table.from_pylist(candidates, schema=schemas.CANDIDATES)
