"""What the workers of stages run: each function here loads what its stage needs and returns the batch function.

The driver imports this module too, to name the functions; torch and transformers, seconds to import, stay inside them.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pyarrow as pa

from reasonembed import schemas
from reasonembed.artifacts import Artifact
from reasonembed.config import Assemble, Encode, Mine
from reasonembed.distributed.data.worker_cache import Worker
from reasonembed.llm.extractive import ExtractiveEngine
from reasonembed.remixer.annotate import AnnotateTask
from reasonembed.remixer.assemble import assemble_query
from reasonembed.remixer.mine import DenseRetriever, mine_candidates
from reasonembed.retrieval.embedded_corpus import EmbeddedCorpus, queries_by_id, texts_of


def encode_worker(model: str, settings: Encode, device: str) -> Worker:
    """``encoding.TEXTS`` to ``schemas.EMBEDDINGS``."""
    from reasonembed.embedder.model import Embedder

    embedder = Embedder.load(model, settings, device)

    def work(rows: pa.Table) -> pa.Table:
        vectors = embedder.encode(
            rows["text"].to_pylist(), settings.max_tokens, settings.batch_tokens, embedder.prompt("document")
        )
        flat = pa.array(vectors.reshape(-1), pa.float32())
        offsets = pa.array(np.arange(len(vectors) + 1, dtype=np.int32) * vectors.shape[1])
        embedding = pa.ListArray.from_arrays(offsets, flat)
        return pa.table([rows["text_id"], embedding], schema=schemas.EMBEDDINGS)

    return work


def extractive_engine(materials: EmbeddedCorpus | None, lexical_weight: float, feedback_docs: int) -> ExtractiveEngine:
    """Needs the materials for all but generation."""
    return ExtractiveEngine(
        collections=materials.collections() if materials else {},
        encode=materials.encoder() if materials else lambda texts: np.zeros((len(texts), 0), np.float32),
        lexical_weight=lexical_weight,
        feedback_docs=feedback_docs,
    )


def annotate_task(queries: Artifact, corpus: Artifact, relevance: dict[str, str]) -> AnnotateTask:
    return AnnotateTask(partial(queries_by_id, queries), partial(texts_of, corpus), relevance)


def mine_worker(settings: Mine, materials: Sequence[EmbeddedCorpus]) -> Worker:
    retrievers = [DenseRetriever(each.name, each.collections(), each.encoder()) for each in materials]
    return partial(mine_candidates, retrievers=retrievers, config=settings)


class AssembleGroup:
    """All pairs of a query to one training row."""

    def __init__(self, settings: Assemble, corpus: Artifact, queries: Artifact, rewrites: Artifact) -> None:
        self._settings = settings
        self._collections = texts_of(corpus)
        self._queries = queries_by_id(queries)
        texts = rewrites.table(schemas.REWRITES)
        self._rewrites = dict(zip(texts["query_id"].to_pylist(), texts["reasoning_query"].to_pylist(), strict=True))

    def __call__(self, pairs: pa.Table) -> pa.Table:
        query = self._queries[pairs["query_id"][0].as_py()]
        row = assemble_query(
            pairs,
            query,
            self._rewrites.get(query["query_id"]),
            self._collections[query["task"]],
            self._settings,
        )
        return pa.Table.from_pylist([row], schema=schemas.TRAINING)
