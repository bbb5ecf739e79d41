"""What runs inside the actors: each function here loads what its stage needs and returns the batch function.

The driver imports this module too, to name the functions; torch and transformers, seconds to import, stay inside them.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pyarrow as pa

from reasonembed import schemas
from reasonembed.artifacts import Artifact
from reasonembed.config import Assemble, Config, Encode, Mine
from reasonembed.distributed.materials import Materials
from reasonembed.embedder.prompts import document_text
from reasonembed.ids import digest
from reasonembed.llm.extractive import ExtractiveEngine
from reasonembed.remixer.annotate import annotate_pairs
from reasonembed.remixer.assemble import assemble_query
from reasonembed.remixer.generate import generate_queries, usable_queries
from reasonembed.remixer.mine import mine_candidates
from reasonembed.remixer.rewrite import rewrite_queries
from reasonembed.retrieval.collection import Collection, build_collections

Worker = Callable[[pa.Table], pa.Table]


def collections_of(materials: Materials) -> dict[str, Collection]:
    return build_collections(materials.corpus.table(schemas.CORPUS), materials.embeddings.table(schemas.EMBEDDINGS))


def encoder_of(materials: Materials) -> Callable[[Sequence[str]], np.ndarray]:
    from reasonembed.embedder.model import Embedder

    embedder = Embedder.load(materials.model)
    return partial(embedder.encode, max_tokens=materials.encode.max_tokens, batch_tokens=materials.encode.batch_tokens)


def encode_worker(model: str, settings: Encode, device: str) -> Worker:
    from reasonembed.embedder.model import Embedder

    embedder = Embedder.load(model, device=device)

    def work(rows: pa.Table) -> pa.Table:
        texts = [document_text(a, b) for a, b in zip(rows["title"].to_pylist(), rows["text"].to_pylist(), strict=True)]
        vectors = embedder.encode(texts, settings.max_tokens, settings.batch_tokens)
        flat = pa.array(vectors.reshape(-1), pa.float32())
        offsets = pa.array(np.arange(len(texts) + 1, dtype=np.int32) * vectors.shape[1])
        embedding = pa.ListArray.from_arrays(offsets, flat)
        return pa.table([rows["row_id"], rows["task"], rows["doc_id"], embedding], schema=schemas.EMBEDDINGS)

    return work


def encode_rows(corpus: pa.Table) -> pa.Table:
    """The corpus with a row id, longest texts first, so that the texts of a block are of like length."""
    keys = zip(corpus["task"].to_pylist(), corpus["doc_id"].to_pylist(), strict=True)
    ids = pa.array([digest("row", task, doc_id) for task, doc_id in keys])
    lengths = [len(a) + len(b) for a, b in zip(corpus["title"].to_pylist(), corpus["text"].to_pylist(), strict=True)]
    return corpus.add_column(0, "row_id", ids).take(np.argsort(-np.array(lengths), kind="stable"))


def engine_for(config: Config, materials: Materials | None) -> ExtractiveEngine:
    """The engine that the config names; ``extractive`` needs the materials for all but generation."""
    return ExtractiveEngine(
        collections=collections_of(materials) if materials else {},
        encode=encoder_of(materials) if materials else lambda texts: np.zeros((len(texts), 0), np.float32),
        lexical_weight=config.llm.lexical_weight,
        feedback_docs=config.rewrite.feedback_docs,
    )


def generate_worker(config: Config, instructions: dict[str, str]) -> Worker:
    return partial(generate_queries, engine=engine_for(config, None), instructions=instructions)


def rewrite_worker(config: Config, materials: Materials) -> Worker:
    return partial(rewrite_queries, engine=engine_for(config, materials))


def mine_worker(settings: Mine, materials: Materials) -> Worker:
    return partial(
        mine_candidates, collections=collections_of(materials), encode=encoder_of(materials), config=settings
    )


def annotate_worker(config: Config, materials: Materials, queries: Artifact) -> Worker:
    engine = engine_for(config, materials)
    rows = {row["query_id"]: row for row in usable_queries(queries.table(schemas.QUERIES)).to_pylist()}
    # The engine's collections carry the texts too; a second copy would double an actor's memory.
    return partial(annotate_pairs, engine=engine, queries=rows, collections=engine.collections)


class AssembleGroup:
    """All pairs of a query to one training row."""

    def __init__(self, settings: Assemble, corpus: Artifact, queries: Artifact, rewrites: Artifact) -> None:
        self._settings = settings
        self._collections = build_collections(corpus.table(schemas.CORPUS))
        self._queries = {row["query_id"]: row for row in queries.table(schemas.QUERIES).to_pylist()}
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
