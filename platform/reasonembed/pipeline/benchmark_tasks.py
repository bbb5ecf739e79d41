"""Ranking and evaluation of a benchmark, each as one function that runs in a single process.

A stage runs them on a worker, as one task of Ray, because the driver may have neither the memory nor a GPU. This module
does not import Ray.
"""

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
from reasonembed.pipeline.lineage import load_training_texts
from reasonembed.remixer.rewrite import with_rewrites
from reasonembed.retrieval.bm25 import QueryWeighting
from reasonembed.retrieval.collection import Collection, iterate_collections
from reasonembed.retrieval.exact import ExactScorer


def rank_with_bm25(
    corpus: Artifact, questions: Artifact, rewrites: Artifact | None, weighting: QueryWeighting, uri: str
) -> dict[str, Any]:
    """Ranks a benchmark's documents by BM25 and writes ``schemas.RANKING``.

    Args:
        corpus: ``schemas.CORPUS``.
        questions: ``schemas.QUESTIONS``.
        rewrites: ``schemas.REWRITES`` of the questions, which then replace them.
        weighting: of a query's tokens.
        uri: of the artifact to write.

    Returns:
        The figures of the artifact.
    """
    table = _load_questions(questions, rewrites)
    collections = iterate_collections(corpus.table(schemas.CORPUS))
    ranking = rank_questions(table, collections, bm25_scorer(weighting), lambda row: row["query"])
    return _write_ranking(ranking, uri)


def rank_with_model(
    corpus: Artifact,
    questions: Artifact,
    rewrites: Artifact | None,
    embeddings: Artifact,
    model: str,
    settings: Encode,
    device: str,
    uri: str,
) -> dict[str, Any]:
    """Ranks a benchmark's documents by a dense model and writes ``schemas.RANKING``.

    Args:
        corpus: ``schemas.CORPUS``.
        questions: ``schemas.QUESTIONS``.
        rewrites: ``schemas.REWRITES`` of the questions, which then replace them.
        embeddings: ``schemas.EMBEDDINGS`` of the whole corpus by the model.
        model: folder or hub id of the model.
        settings: for encoding the questions.
        device: ``cpu`` or ``cuda``: where questions are encoded and scores computed.
        uri: of the artifact to write.

    Returns:
        The figures of the artifact.

    Raises:
        UserError: the embeddings have another dimension than the model.
    """
    from reasonembed.embedder.model import Embedder

    embedder = Embedder.load(model, settings, device)

    @lru_cache(maxsize=1)  # of the current task only, because it may hold a copy of the vectors
    def exact_scorer(collection: Collection) -> ExactScorer:
        if collection.vectors.shape[1] != embedder.dimension:
            raise UserError(
                f"the embeddings in {embeddings.uri} have {collection.vectors.shape[1]} dimensions, model {model} "
                f"has {embedder.dimension}; remove that folder, and the next run encodes the corpus again"
            )
        return ExactScorer(collection.vectors, collection.texts, device)

    def score(collection: Collection, queries: Sequence[str]) -> np.ndarray:
        return exact_scorer(collection)(embedder.encode(queries, settings.max_tokens, settings.batch_tokens))

    ranking = rank_questions(
        _load_questions(questions, rewrites),
        iterate_collections(corpus.table(schemas.CORPUS), embeddings.table(schemas.EMBEDDINGS)),
        score,
        lambda row: query_text(row["query"], row["instruction"], settings.instruct, embedder.prompt("query")),
    )
    return _write_ranking(ranking, uri)


def evaluate_on_benchmark(
    name: str,
    config: Config,
    corpus: Artifact,
    questions: Artifact,
    ranking: Artifact,
    baseline: tuple[str, Artifact] | None,
    training: Artifact | None,
    provenance: dict[str, Any],
    uri: str,
) -> dict[str, Any]:
    """Measures the ranking of a system and writes the evaluation; see ``evaluate.evaluate_ranking``.

    Args:
        name: of the system.
        config: with the benchmark's name in ``evaluate.benchmark``.
        corpus: ``schemas.CORPUS`` of the benchmark.
        questions: ``schemas.QUESTIONS`` of the benchmark.
        ranking: ``schemas.RANKING`` of the system.
        baseline: name and ranking of the system to compare with.
        training: the training of the system's model, in whose data leaks of the benchmark are counted.
        provenance: time, commit and versions, for the report.
        uri: of the artifact to write.

    Returns:
        The figures of the artifact.
    """
    question_table, documents = questions.table(schemas.QUESTIONS), corpus.table(schemas.CORPUS)
    texts = load_training_texts(training) if training is not None else None
    figures = evaluate_ranking(
        name,
        ranking.table(schemas.RANKING),
        Benchmark(str(config.evaluate.benchmark), question_table, documents),
        config,
        uri,
        Baseline(baseline[0], baseline[1].table(schemas.RANKING)) if baseline else None,
        find_leaks(texts, question_table, documents) if texts else None,
        provenance,
    )
    return {"rows": question_table.num_rows, **figures}


def _load_questions(questions: Artifact, rewrites: Artifact | None) -> pa.Table:
    """Loads ``schemas.QUESTIONS``, in which the rewrites, if there are any, replace the questions' texts."""
    table = questions.table(schemas.QUESTIONS)
    return table if rewrites is None else with_rewrites(table, rewrites.table(schemas.REWRITES))


def _write_ranking(ranking: pa.Table, uri: str) -> dict[str, Any]:
    """Writes ``schemas.RANKING`` and returns the figures of the artifact."""
    storage.write_table(ranking, storage.join(uri, RANKING_FILE))
    return {"rows": ranking.num_rows}
