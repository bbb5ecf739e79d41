"""Stage 2: candidates for every query. The source and its near-duplicates leave before the cut-off."""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from reasonembed import ids, schemas
from reasonembed.config import Mine
from reasonembed.retrieval.collection import Collection
from reasonembed.retrieval.ranking import fuse, top_k


def mine_candidates(
    queries: pa.Table,
    collections: dict[str, Collection],
    encode: Callable[[Sequence[str]], np.ndarray],
    config: Mine,
) -> pa.Table:
    """``schemas.QUERIES`` to ``schemas.CANDIDATES``: ``config.keep`` rows a query, best first, in query order."""
    rows = queries.to_pylist()
    vectors = encode([row["query"] for row in rows])
    retriever = f"bm25:{config.lexical_weight:g}+dense:{1 - config.lexical_weight:g}"
    out = []
    for row, vector in zip(rows, vectors, strict=True):
        collection = collections[row["task"]]
        scores = fuse(collection.vectors @ vector, collection.bm25.scores(row["query"]), config.lexical_weight)
        own = collection.near_duplicates(row["source_doc_id"], config.near_duplicate)
        for rank, position in enumerate(top_k(scores, config.keep, excluded=own), start=1):
            doc_id = collection.doc_ids[position]
            out.append(
                {
                    "pair_id": ids.pair_id(row["query_id"], doc_id),
                    "query_id": row["query_id"],
                    "doc_id": doc_id,
                    "rank": rank,
                    "score": float(scores[position]),
                    "retriever": retriever,
                }
            )
    return pa.Table.from_pylist(out, schema=schemas.CANDIDATES)
