"""Access to the indexes that a gateway searches: in its own process, or divided among other processes."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Protocol

import numpy as np

from reasonembed.serving.async_cache import AsyncCache
from reasonembed.serving.event_loop import run_in_thread_if
from reasonembed.serving.index_shards import (
    DocumentFilter,
    IndexShards,
    RankedPositions,
    load_index_artifact,
    merge_rankings,
)
from reasonembed.serving.limits import response_too_large

LOOP_BYTES, LOOP_DOCUMENTS = 1 << 18, 100  # of documents that are read on the event loop; more are read in a thread


class IndexStore(Protocol):
    """Searches indexes by URI. Every call names the index, so that an old and a new one can be used side by side."""

    def search_dense(
        self, uri: str, vectors: np.ndarray, k: int, document_filter: DocumentFilter
    ) -> Awaitable[list[RankedPositions]]:
        """Returns the k documents nearest to each of (queries, dim) unit vectors."""

    def search_bm25(self, uri: str, query: str, k: int, document_filter: DocumentFilter) -> Awaitable[RankedPositions]:
        """Returns the k documents with the best BM25 scores for a query."""

    def documents(
        self, uri: str, positions: Sequence[int], with_text: bool = True, max_bytes: int | None = None
    ) -> Awaitable[dict[int, dict[str, str]]]:
        """Returns ``doc_id``, ``task`` and, if wanted, ``text`` by position.

        Raises:
            RequestRefused: the texts have more than ``max_bytes`` bytes.
        """


class LocalStore:
    """Holds indexes, or an equal share of the shards of each, in this process.

    Args:
        process: number of this process, from 0.
        processes: number of processes among which the shards of an index are divided.
        device: ``cpu`` or ``cuda``, where vectors are searched.
    """

    def __init__(self, process: int = 0, processes: int = 1, device: str = "cpu") -> None:
        self._indexes: AsyncCache[str, IndexShards] = AsyncCache(
            lambda uri: IndexShards(load_index_artifact(uri), process, processes, device)
        )

    async def search_dense(
        self, uri: str, vectors: np.ndarray, k: int, document_filter: DocumentFilter
    ) -> list[RankedPositions]:
        """Returns the k documents of these shards nearest to each of (queries, dim) unit vectors."""
        return await asyncio.to_thread((await self._indexes.get(uri)).search_dense, vectors, k, document_filter)

    async def search_bm25(self, uri: str, query: str, k: int, document_filter: DocumentFilter) -> RankedPositions:
        """Returns the k documents of these shards with the best BM25 scores for a query."""
        return await asyncio.to_thread((await self._indexes.get(uri)).search_bm25, query, k, document_filter)

    async def documents(
        self, uri: str, positions: Sequence[int], with_text: bool = True, max_bytes: int | None = None
    ) -> dict[int, dict[str, str]]:
        """Returns ``doc_id``, ``task`` and, if wanted, ``text`` by position, for those positions that lie in these
        shards.

        Raises:
            RequestRefused: the texts have more than ``max_bytes`` bytes.
        """
        index = await self._indexes.get(uri)
        text_bytes = index.text_bytes(positions) if with_text else 0
        if max_bytes is not None and text_bytes > max_bytes:
            raise response_too_large(max_bytes)
        slow = text_bytes > LOOP_BYTES or len(positions) > LOOP_DOCUMENTS
        return await run_in_thread_if(slow, index.documents, positions, with_text)


class ShardedStore:
    """Searches in several stores at once, each with a part of the shards, and merges their results.

    Args:
        stores: together they hold all shards of every index.
    """

    def __init__(self, stores: Sequence[IndexStore]) -> None:
        self._stores = stores

    async def search_dense(
        self, uri: str, vectors: np.ndarray, k: int, document_filter: DocumentFilter
    ) -> list[RankedPositions]:
        """Returns the k documents nearest to each of (queries, dim) unit vectors."""
        by_store = await asyncio.gather(
            *(store.search_dense(uri, vectors, k, document_filter) for store in self._stores)
        )
        return [merge_rankings(of_query, k) for of_query in zip(*by_store, strict=True)]

    async def search_bm25(self, uri: str, query: str, k: int, document_filter: DocumentFilter) -> RankedPositions:
        """Returns the k documents with the best BM25 scores for a query."""
        by_store = await asyncio.gather(*(store.search_bm25(uri, query, k, document_filter) for store in self._stores))
        return merge_rankings(by_store, k)

    async def documents(
        self, uri: str, positions: Sequence[int], with_text: bool = True, max_bytes: int | None = None
    ) -> dict[int, dict[str, str]]:
        """Returns ``doc_id``, ``task`` and, if wanted, ``text`` by position.

        Raises:
            RequestRefused: the texts in one store have more than ``max_bytes`` bytes.
        """
        documents: dict[int, dict[str, str]] = {}
        calls = (store.documents(uri, positions, with_text, max_bytes) for store in self._stores)
        for of_store in await asyncio.gather(*calls):
            documents |= of_store
        return documents
