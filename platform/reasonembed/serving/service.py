"""The search service behind the HTTP API: encodes texts and searches the active index."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np

from reasonembed.config import Serve
from reasonembed.errors import UserError
from reasonembed.retrieval.fusion import Fusion, fuse_ranked_lists
from reasonembed.serving.active_index import ActiveIndex, IndexVersion
from reasonembed.serving.encoders import PromptKind, ServedModel
from reasonembed.serving.event_loop import run_in_thread_if
from reasonembed.serving.index_shards import ALL_DOCUMENTS, DocumentFilter, RankedPositions, load_index_artifact
from reasonembed.serving.index_store import IndexStore
from reasonembed.serving.limits import check_search
from reasonembed.serving.refusals import RequestRefused

SearchMode = Literal["dense", "bm25", "hybrid"]
EncodeTexts = Callable[[str, Sequence[str], PromptKind, str], Awaitable[tuple[np.ndarray, int]]]
"""Encodes (URI of an index, texts, kind of their prompt, instruction) with the index's model; returns (texts, dim) unit
vectors and the number of tokens."""

FUSION_DEPTH = 1000  # documents of each ranking that `hybrid` fuses
# Queries that are fused, and documents whose results are built, on the event loop; more take a thread.
LOOP_QUERIES, LOOP_HITS = 2, 1000
# An index is accepted if this many of its own documents, searched by their texts, are found near the top.
PROBES, PROBE_DEPTH, MIN_PROBE_MATCHES = 8, 10, 6


class SearchService:
    """Answers searches and encodes texts with the active index and its model.

    Args:
        encode_texts: runs the models.
        store: searches the indexes.
        settings: the section ``serve``, with the limits.
        cut_dimensions: returns the lengths to which the vectors of a model may be cut.
        on_stage: called with the name and the seconds of every stage of a request.
    """

    def __init__(
        self,
        encode_texts: EncodeTexts,
        store: IndexStore,
        settings: Serve,
        cut_dimensions: Callable[[ServedModel], tuple[int, ...]] = lambda model: (),
        on_stage: Callable[[str, float], None] = lambda stage, seconds: None,
    ) -> None:
        self._encode_texts, self._store, self._settings = encode_texts, store, settings
        self._cut_dimensions, self._on_stage = cut_dimensions, on_stage
        self.active_index = ActiveIndex(self.load_version)
        self.waiting_texts = 0
        """Texts that wait, are being encoded or are searched by BM25."""

    @property
    def version(self) -> IndexVersion:
        """The active version.

        Raises:
            RequestRefused: no index is active yet.
        """
        if self.active_index.version is None:
            raise RequestRefused(503, "not_ready", "no index is live yet", retry_after=5)
        return self.active_index.version

    async def embed(
        self, version: IndexVersion, texts: Sequence[str], kind: PromptKind = "none", instruction: str = ""
    ) -> tuple[np.ndarray, int]:
        """Returns (texts, dim) unit vectors and the number of tokens.

        Args:
            version: whose model is used.
            texts: to encode.
            kind: of the prompt that precedes each text.
            instruction: for queries.

        Raises:
            RequestRefused: too many texts are waiting already, or these have too many tokens.
        """
        with self._waiting(len(texts)), self._timed("encode"):
            return await self._encode_texts(version.uri, texts, kind, instruction)

    async def search(
        self,
        version: IndexVersion,
        queries: Sequence[str],
        instruction: str,
        mode: SearchMode,
        fusion: Fusion,
        top_k: int,
        document_filter: DocumentFilter,
        with_text: bool = True,
    ) -> tuple[list[list[dict[str, Any]]], int]:
        """Searches the documents for each query.

        Args:
            version: that is searched.
            queries: texts without prompts.
            instruction: what to retrieve; only for models that were trained with instructions.
            mode: by vectors, by BM25, or by both.
            fusion: how ``hybrid`` combines the two rankings, which have equal weights.
            top_k: number of documents per query.
            document_filter: documents that may be returned.
            with_text: whether the documents' texts are returned.

        Returns:
            For each query its documents, best first (``task``, ``doc_id``, ``text`` and ``score``); and the number of
            tokens of all queries.

        Raises:
            RequestRefused: the index does not support the mode, the search is too large, or the service is overloaded.
        """
        if mode != "dense" and not version.index.record["config"]["index"]["bm25"]:
            raise RequestRefused(
                422, "invalid_request", "mode: the index was built without BM25 and supports only `dense`"
            )
        check_search(queries, top_k, mode != "dense", self._settings)
        depth = max(top_k, FUSION_DEPTH) if mode == "hybrid" else top_k
        rankings: list[list[RankedPositions]] = []  # by system, then by query
        tokens = 0
        if mode != "bm25":
            vectors, tokens = await self.embed(version, queries, "query", instruction)
            with self._timed("search"):
                rankings.append(await self._store.search_dense(version.uri, vectors, depth, document_filter))
        if mode != "dense":
            with self._waiting(len(queries)), self._timed("words"):
                searches = [self._store.search_bm25(version.uri, query, depth, document_filter) for query in queries]
                rankings.append(await asyncio.gather(*searches))
        ranked = rankings[0]
        if mode == "hybrid":
            ranked = await run_in_thread_if(len(queries) > LOOP_QUERIES, _fuse, rankings, fusion, top_k)
        with self._timed("documents"):
            distinct = sorted({int(position) for positions, _ in ranked for position in positions})
            max_bytes = self._settings.response_bytes
            documents = await self._store.documents(version.uri, distinct, with_text, max_bytes)
            slow = sum(len(positions) for positions, _ in ranked) > LOOP_HITS
            return await run_in_thread_if(slow, _hits, ranked, documents), tokens

    async def load_version(self, uri: str) -> IndexVersion:
        """Opens an index and its model, and searches some of the index's own documents by their texts.

        Args:
            uri: of a finished index.

        Raises:
            UserError: there is no finished index, or its model does not find the index's own documents.
        """
        index = await asyncio.to_thread(load_index_artifact, uri)
        model = ServedModel.from_index(index)
        rows = int(index.figures["rows"])
        probes = sorted({int(position) for position in np.linspace(0, rows - 1, min(PROBES, rows))})
        documents = await self._store.documents(uri, probes)
        texts = [documents[position]["text"] for position in probes]
        vectors, _ = await self._encode_texts(uri, texts, "document", "")
        dimension = int(index.figures["dimension"])
        if vectors.shape[1] != dimension:
            raise UserError(f"index {uri} has {dimension} dimensions, its model {model.source} has {vectors.shape[1]}")
        if not np.isfinite(vectors).all():
            raise UserError(f"index {uri}: its model {model.source} returns vectors with NaN or infinity")
        matches = 0
        rankings = await self._store.search_dense(uri, vectors, PROBE_DEPTH, ALL_DOCUMENTS)
        for text, (positions, _) in zip(texts, rankings, strict=True):
            nearest = await self._store.documents(uri, positions.tolist())
            matches += text in {document["text"] for document in nearest.values()}
        if matches < len(texts) * MIN_PROBE_MATCHES / PROBES:
            raise UserError(
                f"index {uri} finds {matches} of {len(texts)} of its own documents by their texts; it was not built "
                f"with the model {model.source} as it is now"
            )
        return IndexVersion(uri, index, model, await asyncio.to_thread(self._cut_dimensions, model))

    @contextmanager
    def _waiting(self, texts: int) -> Iterator[None]:
        """Counts texts as waiting while the block runs.

        Raises:
            RequestRefused: too many texts are waiting already.
        """
        limit = self._settings.waiting
        if self.waiting_texts and self.waiting_texts + texts > limit:
            message = f"{self.waiting_texts} texts are waiting, the limit is {limit}"
            raise RequestRefused(503, "overloaded", message, retry_after=1)
        self.waiting_texts += texts
        try:
            yield
        finally:
            self.waiting_texts -= texts

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._on_stage(stage, time.perf_counter() - started)


def _fuse(rankings: Sequence[Sequence[RankedPositions]], fusion: Fusion, top_k: int) -> list[RankedPositions]:
    """Fuses the rankings of two systems, with equal weights, for each query."""
    return [fuse_ranked_lists(lists, fusion, (0.5, 0.5), top_k) for lists in zip(*rankings, strict=True)]


def _hits(ranked: Sequence[RankedPositions], documents: dict[int, dict[str, str]]) -> list[list[dict[str, Any]]]:
    """Returns for each query its documents with their scores, best first."""
    return [
        [
            {**documents[position], "score": round(score, 6)}
            for position, score in zip(positions.tolist(), scores.tolist(), strict=True)
        ]
        for positions, scores in ranked
    ]
