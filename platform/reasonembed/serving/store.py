"""Where the index lies that a gateway searches: in its own process, or in others that share it."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Protocol

import numpy as np

from reasonembed.serving.async_cache import AsyncCache
from reasonembed.serving.index_shards import DocumentFilter, Found, IndexShards, finished_index, merged


class Store(Protocol):
    """Every call names the index, so that an old and a new one can be asked side by side."""

    def dense(self, uri: str, vectors: np.ndarray, k: int, within: DocumentFilter) -> Awaitable[list[Found]]: ...

    def lexical(self, uri: str, query: str, k: int, within: DocumentFilter) -> Awaitable[Found]: ...

    def documents(self, uri: str, positions: Sequence[int]) -> Awaitable[dict[int, dict[str, str]]]: ...


class LocalStore:
    """One part of each index, in this process."""

    def __init__(self, number: int = 0, parts: int = 1, device: str = "cpu") -> None:
        self._parts: AsyncCache[str, IndexShards] = AsyncCache(
            lambda uri: IndexShards(finished_index(uri), number, parts, device)
        )

    async def dense(self, uri: str, vectors: np.ndarray, k: int, within: DocumentFilter) -> list[Found]:
        return await asyncio.to_thread((await self._parts.get(uri)).dense, vectors, k, within)

    async def lexical(self, uri: str, query: str, k: int, within: DocumentFilter) -> Found:
        return await asyncio.to_thread((await self._parts.get(uri)).lexical, query, k, within)

    async def documents(self, uri: str, positions: Sequence[int]) -> dict[int, dict[str, str]]:
        return (await self._parts.get(uri)).documents(positions)


class ShardedStore:
    """Asks all the parts and merges what they find."""

    def __init__(self, parts: Sequence[Store]) -> None:
        self._parts = parts

    async def dense(self, uri: str, vectors: np.ndarray, k: int, within: DocumentFilter) -> list[Found]:
        of_parts = await asyncio.gather(*(part.dense(uri, vectors, k, within) for part in self._parts))
        return [merged(of_query, k) for of_query in zip(*of_parts, strict=True)]

    async def lexical(self, uri: str, query: str, k: int, within: DocumentFilter) -> Found:
        return merged(await asyncio.gather(*(part.lexical(uri, query, k, within) for part in self._parts)), k)

    async def documents(self, uri: str, positions: Sequence[int]) -> dict[int, dict[str, str]]:
        found: dict[int, dict[str, str]] = {}
        for of_part in await asyncio.gather(*(part.documents(uri, positions) for part in self._parts)):
            found |= of_part
        return found
