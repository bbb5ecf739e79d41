"""What the endpoint does with a request: vectors and searches by the version that is live."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np

from reasonembed.config import Serve
from reasonembed.errors import UserError
from reasonembed.retrieval.fusion import Fusion, fuse_found
from reasonembed.serving.active_index import ActiveIndex, Version
from reasonembed.serving.encoders import Prompt, ServedModel
from reasonembed.serving.index_shards import DocumentFilter, Found, finished_index
from reasonembed.serving.refusals import RequestRefused
from reasonembed.serving.store import Store

Mode = Literal["dense", "bm25", "hybrid"]
Encode = Callable[[str, Sequence[str], Prompt, str], Awaitable[tuple[np.ndarray, int]]]
"""(URI of an index, texts, what they are, instruction) to (texts, dim) unit vectors by its model, and their tokens."""

FUSION_DEPTH = 1000
PROBES, NEAR_THE_TOP, PROBES_FOUND = 8, 10, 6


class Service:
    """
    Args:
        encode: runs the models.
        store: holds the indexes.
        settings: limits.
        dimensions: lengths to which the vectors of a model may be cut.
        on_stage: told of the seconds of every stage.
    """

    def __init__(
        self,
        encode: Encode,
        store: Store,
        settings: Serve,
        dimensions: Callable[[ServedModel], tuple[int, ...]] = lambda model: (),
        on_stage: Callable[[str, float], None] = lambda stage, seconds: None,
    ) -> None:
        self._encode, self._store, self._settings = encode, store, settings
        self._dimensions, self._on_stage = dimensions, on_stage
        self.live = ActiveIndex(self.prepare)
        self.waiting = 0
        """Texts that wait for their vectors."""

    @property
    def version(self) -> Version:
        """
        Raises:
            RequestRefused: none is live yet.
        """
        if self.live.version is None:
            raise RequestRefused(503, "not_ready", "no index is live yet", retry_after=5)
        return self.live.version

    async def embed(
        self, version: Version, texts: Sequence[str], prompt: Prompt = "none", instruction: str = ""
    ) -> tuple[np.ndarray, int]:
        """(texts, dim) unit vectors of texts, and their tokens.

        Raises:
            RequestRefused: too many texts wait already, or these have too many tokens.
        """
        most = self._settings.waiting
        if self.waiting + len(texts) > most and self.waiting:
            raise RequestRefused(503, "overloaded", f"{self.waiting} texts are waiting, {most} may", retry_after=1)
        self.waiting += len(texts)
        try:
            with self._timed("encode"):
                return await self._encode(version.uri, texts, prompt, instruction)
        finally:
            self.waiting -= len(texts)

    async def search(
        self,
        version: Version,
        queries: Sequence[str],
        instruction: str,
        mode: Mode,
        fusion: Fusion,
        top_k: int,
        within: DocumentFilter,
    ) -> tuple[list[list[dict[str, Any]]], int]:
        """For each query its documents, best first (``doc_id``, ``task``, ``text`` and ``score``); and all tokens.

        Raises:
            RequestRefused: the index cannot be searched so, or there is too much to do.
        """
        if mode != "dense" and not version.index.record["config"]["index"]["bm25"]:
            raise RequestRefused(
                422, "invalid_request", "mode: the index was built without BM25 and takes `dense` only"
            )
        depth = max(top_k, FUSION_DEPTH) if mode == "hybrid" else top_k
        found: list[list[Found]] = []  # by half of the search, then by query
        tokens = 0
        if mode != "bm25":
            vectors, tokens = await self.embed(version, queries, "query", instruction)
            with self._timed("search"):
                found.append(await self._store.dense(version.uri, vectors, depth, within))
        if mode != "dense":
            with self._timed("words"):
                lexical = [self._store.lexical(version.uri, query, depth, within) for query in queries]
                found.append(await asyncio.gather(*lexical))
        ranked = found[0]
        if mode == "hybrid":
            ranked = [fuse_found(halves, fusion, (0.5, 0.5), top_k) for halves in zip(*found, strict=True)]
        with self._timed("documents"):
            positions = sorted({int(p) for places, _ in ranked for p in places})
            documents = await self._store.documents(version.uri, positions)
        return [
            [{**documents[p], "score": round(s, 6)} for p, s in zip(places.tolist(), scores.tolist(), strict=True)]
            for places, scores in ranked
        ], tokens

    async def prepare(self, uri: str) -> Version:
        """Open an index and its model aside, and try them out on the index's own documents.

        Raises:
            UserError: it is no finished index, or it does not find its own documents by its own model.
        """
        index = await asyncio.to_thread(finished_index, uri)
        model = ServedModel.of(index)
        rows = int(index.figures["rows"])
        positions = sorted({int(p) for p in np.linspace(0, rows - 1, min(PROBES, rows))})
        documents = await self._store.documents(uri, positions)
        texts = [documents[position]["text"] for position in positions]
        vectors, _ = await self._encode(uri, texts, "document", "")
        dimension = int(index.figures["dimension"])
        if vectors.shape[1] != dimension:
            raise UserError(f"index {uri} has {dimension} dimensions, its model {model.place} has {vectors.shape[1]}")
        if not np.isfinite(vectors).all():
            raise UserError(f"index {uri}: its model {model.place} gives vectors that are not finite numbers")
        hits = 0
        for text, (places, _) in zip(
            texts, await self._store.dense(uri, vectors, NEAR_THE_TOP, DocumentFilter()), strict=True
        ):
            near = await self._store.documents(uri, places.tolist())
            hits += text in {document["text"] for document in near.values()}
        if hits < len(texts) * PROBES_FOUND / PROBES:
            raise UserError(
                f"index {uri} finds {hits} of {len(texts)} of its own documents by their texts; it was not made with "
                f"the model {model.place} as that is now"
            )
        return Version(uri, index, model, await asyncio.to_thread(self._dimensions, model))

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._on_stage(stage, time.perf_counter() - started)
