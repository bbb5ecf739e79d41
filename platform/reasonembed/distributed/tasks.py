"""Work of one piece that runs as a single Ray task, so that a driver without memory or GPU can ask for it."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from reasonembed import schemas, storage
from reasonembed.artifacts import Artifact
from reasonembed.config import Config
from reasonembed.evaluation.evaluate import evaluate_system
from reasonembed.evaluation.ranking import Scorer, bm25_scores, dense_scorer
from reasonembed.retrieval.collection import build_collections
from reasonembed.retrieval.faiss_index import DOCUMENTS, DOCUMENTS_FILE, INDEX_FILE, build_index


def evaluate_on(
    name: str,
    config: Config,
    corpus: Artifact,
    questions: Artifact,
    embeddings: Artifact | None,
    model: str | None,
    uri: str,
) -> dict[str, Any]:
    """Measure BM25 (``model`` is None) or a dense model whose document vectors are given."""
    storage.delete_tree(uri)
    table = questions.table(schemas.QUESTIONS)
    if model is None or embeddings is None:
        collections = build_collections(corpus.table(schemas.CORPUS))
        score: Scorer = bm25_scores
    else:
        collections = build_collections(corpus.table(schemas.CORPUS), embeddings.table(schemas.EMBEDDINGS))
        from reasonembed.embedder.model import Embedder

        settings = config.encode
        embedder = Embedder.load(model, settings)
        score = dense_scorer(lambda texts: embedder.encode(texts, settings.max_tokens, settings.batch_tokens))
    result = evaluate_system(name, table, collections, score, config, uri)
    return {"rows": table.num_rows, **result}


def build_served_index(corpus: Artifact, embeddings: Artifact, uri: str) -> dict[str, Any]:
    """Write the FAISS index and, in the order of its vectors, the documents."""
    storage.delete_tree(uri)
    collections = build_collections(corpus.table(schemas.CORPUS), embeddings.table(schemas.EMBEDDINGS))
    vectors = np.concatenate([collection.vectors for collection in collections.values()])
    with tempfile.TemporaryDirectory(prefix="reasonembed-") as folder:
        build_index(vectors, Path(folder) / INDEX_FILE)
        storage.upload_tree(Path(folder), uri)
    documents = pa.concat_tables(
        pa.table([[task] * len(c.doc_ids), c.doc_ids, c.texts], schema=DOCUMENTS) for task, c in collections.items()
    )
    storage.write_table(documents, storage.join(uri, DOCUMENTS_FILE))
    return {"rows": documents.num_rows, "dimension": vectors.shape[1]}
