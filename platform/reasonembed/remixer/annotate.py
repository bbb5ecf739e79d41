"""Stage 3: a relevance grade from 1 to 5, and a score beside it, for every (query, candidate) pair."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from reasonembed import schemas
from reasonembed.llm.parsing import Judgement, parse
from reasonembed.llm.protocol import Engine, Request
from reasonembed.retrieval.collection import Collection


def annotate_pairs(
    pairs: pa.Table,
    engine: Engine,
    queries: Mapping[str, Mapping[str, Any]],
    collections: Mapping[str, Collection],
) -> pa.Table:
    """``schemas.CANDIDATES`` to ``schemas.ANNOTATIONS``, rejected rows included.

    Args:
        pairs: grouped by query, so that an engine can share what it does for a query.
        engine: who grades.
        queries: rows of ``schemas.QUERIES`` by query id.
        collections: the texts, by task.
    """
    requests = []
    for query_id, doc_id in zip(pairs["query_id"].to_pylist(), pairs["doc_id"].to_pylist(), strict=True):
        query = queries[query_id]
        collection = collections[query["task"]]
        fields = {
            "query": query["query"],
            "source_doc_id": query["source_doc_id"],
            "doc_id": doc_id,
            "document": collection.texts[collection.position(doc_id)],
        }
        requests.append(Request("annotate", query["task"], fields))
    parsed = [parse(answer, Judgement) for answer in engine.answer(requests)]
    columns = {
        "pair_id": pairs["pair_id"],
        "query_id": pairs["query_id"],
        "doc_id": pairs["doc_id"],
        "grade": [p.value.grade if p.value else None for p in parsed],
        "score": [p.value.score if p.value else None for p in parsed],
        "rationale": [p.value.rationale if p.value else None for p in parsed],
        "annotator": [engine.name] * len(parsed),
        "reject_reason": [p.reject_reason for p in parsed],
        "raw_answer": [p.raw_answer for p in parsed],
    }
    return pa.table(columns, schema=schemas.ANNOTATIONS)
