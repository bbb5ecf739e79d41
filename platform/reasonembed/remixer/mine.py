"""Stage 2: candidates for every query. The source and its near-duplicates leave before the cut-off."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from reasonembed import ids, schemas
from reasonembed.config import Mine
from reasonembed.retrieval.collection import Collection
from reasonembed.retrieval.fusion import fuse, min_max, top_k


@dataclass(frozen=True)
class DenseRetriever:
    """
    Args:
        name: for the ``retriever`` column.
        collections: the documents by task, with this model's vectors.
        encode: texts to (texts, dim) unit vectors, with the same model.
    """

    name: str
    collections: Mapping[str, Collection]
    encode: Callable[[Sequence[str]], np.ndarray]


def mine_candidates(queries: pa.Table, retrievers: Sequence[DenseRetriever], config: Mine) -> pa.Table:
    """``schemas.QUERIES`` to ``schemas.CANDIDATES``: ``config.keep`` rows a query, best first, in query order.

    BM25 and the mean of the dense retrievers' min-max scaled scores are fused by ``config.lexical_weight``. A document
    that any of the retrievers finds as near to the source as ``config.near_duplicate`` is no candidate.
    """
    name = f"bm25:{config.lexical_weight:g}+" + "+".join(
        f"{retriever.name}:{(1 - config.lexical_weight) / len(retrievers):g}" for retriever in retrievers
    )
    rows = queries.to_pylist()
    vectors = [retriever.encode([row["query"] for row in rows]) for retriever in retrievers]
    out = []
    for number, row in enumerate(rows):
        here = [retriever.collections[row["task"]] for retriever in retrievers]
        collection = here[0]
        dense = [found.vectors @ vector[number] for found, vector in zip(here, vectors, strict=True)]
        mean = dense[0] if len(dense) == 1 else np.mean([min_max(scores) for scores in dense], axis=0)
        scores = fuse(mean, collection.lexical.scores(row["query"]), config.lexical_weight)
        own = [found.near_duplicates(row["source_doc_id"], config.near_duplicate) for found in here]
        for rank, position in enumerate(top_k(scores, config.keep, np.unique(np.concatenate(own))), start=1):
            doc_id = collection.doc_ids[position]
            out.append(
                {
                    "pair_id": ids.pair_id(row["query_id"], doc_id),
                    "query_id": row["query_id"],
                    "doc_id": doc_id,
                    "rank": rank,
                    "score": float(scores[position]),
                    "retriever": name,
                }
            )
    return pa.Table.from_pylist(out, schema=schemas.CANDIDATES)
