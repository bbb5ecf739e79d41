"""Work of one piece that runs as a single Ray task, so that a driver without memory or GPU can ask for it."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from reasonembed import schemas, storage
from reasonembed.artifacts import Artifact
from reasonembed.config import Config, Encode
from reasonembed.embedder.prompts import query_text
from reasonembed.errors import UserError
from reasonembed.evaluation.evaluate import Baseline, Benchmark, evaluate_ranking
from reasonembed.evaluation.leaks import find_leaks
from reasonembed.evaluation.ranking import RANKING_FILE, bm25_scorer, rank_questions
from reasonembed.pipeline.lineage import training_texts
from reasonembed.remixer.rewrite import with_rewrites
from reasonembed.retrieval.bm25 import Weights
from reasonembed.retrieval.collection import Collection, each_collection
from reasonembed.retrieval.exact import ExactScores


def rank_with_bm25(
    corpus: Artifact, questions: Artifact, rewritten: Artifact | None, weights: Weights, uri: str
) -> dict[str, Any]:
    """Write ``schemas.RANKING`` of BM25."""
    collections = each_collection(corpus.table(schemas.CORPUS))
    ranking = rank_questions(_asked(questions, rewritten), collections, bm25_scorer(weights), lambda row: row["query"])
    return _written(ranking, uri)


def rank_with_model(
    corpus: Artifact,
    questions: Artifact,
    rewritten: Artifact | None,
    embeddings: Artifact,
    model: str,
    settings: Encode,
    device: str,
    uri: str,
) -> dict[str, Any]:
    """Write ``schemas.RANKING`` of a dense model whose document vectors are given.

    Raises:
        UserError: the vectors are not of this model's dimension.
    """
    from reasonembed.embedder.model import Embedder

    embedder = Embedder.load(model, settings, device)

    @lru_cache(maxsize=1)  # of the task at hand
    def exact(collection: Collection) -> ExactScores:
        if collection.vectors.shape[1] != embedder.dimension:
            raise UserError(
                f"the embeddings in {embeddings.uri} have {collection.vectors.shape[1]} dimensions, model {model} "
                f"has {embedder.dimension}; remove that folder, and the next run encodes the corpus again"
            )
        return ExactScores(collection.vectors, collection.texts, device)

    def score(collection: Collection, queries: Sequence[str]) -> np.ndarray:
        return exact(collection)(embedder.encode(queries, settings.max_tokens, settings.batch_tokens))

    ranking = rank_questions(
        _asked(questions, rewritten),
        each_collection(corpus.table(schemas.CORPUS), embeddings.table(schemas.EMBEDDINGS)),
        score,
        lambda row: query_text(row["query"], row["instruction"], settings.instruct, embedder.prompt("query")),
    )
    return _written(ranking, uri)


def evaluate_on(
    name: str,
    config: Config,
    corpus: Artifact,
    questions: Artifact,
    ranking: Artifact,
    baseline: tuple[str, Artifact] | None,
    training: Artifact | None,
    origin: dict[str, Any],
    uri: str,
) -> dict[str, Any]:
    """Measure a ranking, beside a baseline's, and look for what the model's training has seen of the benchmark."""
    storage.delete_tree(uri)
    asked, documents = questions.table(schemas.QUESTIONS), corpus.table(schemas.CORPUS)
    texts = training_texts(training) if training is not None else None
    result = evaluate_ranking(
        name,
        ranking.table(schemas.RANKING),
        Benchmark(str(config.evaluate.benchmark), asked, documents),
        config,
        uri,
        Baseline(baseline[0], baseline[1].table(schemas.RANKING)) if baseline else None,
        find_leaks(texts, asked, documents) if texts else None,
        origin,
    )
    return {"rows": asked.num_rows, **result}


def _asked(questions: Artifact, rewritten: Artifact | None) -> pa.Table:
    table = questions.table(schemas.QUESTIONS)
    return table if rewritten is None else with_rewrites(table, rewritten.table(schemas.REWRITES))


def _written(ranking: pa.Table, uri: str) -> dict[str, Any]:
    storage.delete_tree(uri)
    storage.write_table(ranking, storage.join(uri, RANKING_FILE))
    return {"rows": ranking.num_rows}
