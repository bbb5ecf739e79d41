"""Calls from a gateway to the other deployments: encoders and search shards."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle

from reasonembed.distributed.serve.prometheus_metrics import ServingMetrics
from reasonembed.errors import UserError
from reasonembed.serving.encoders import PromptKind
from reasonembed.serving.index_shards import DocumentFilter, RankedPositions
from reasonembed.serving.refusals import RequestRefused


async def call_deployment(call: Callable[[], Awaitable[Any]], metrics: ServingMetrics) -> Any:
    """Calls another deployment, and retries once if the replica is lost.

    Args:
        call: sends the call; its result is returned.
        metrics: where a retry is counted.

    Raises:
        RequestRefused: the deployment refuses the request, is overloaded, or loses a replica twice.
        UserError: as the deployment raises it.
    """
    try:
        try:
            return await call()
        except RayActorError:
            metrics.count_retry()
            return await call()
    except RayTaskError as error:
        if isinstance(error.cause, RequestRefused | UserError):
            raise error.cause from None
        raise
    except RayActorError:
        raise RequestRefused(503, "unavailable", "a replica was lost twice", retry_after=1) from None
    except BackPressureError:
        raise RequestRefused(503, "overloaded", "too many requests are waiting", retry_after=1) from None


class RemoteEncoder:
    """Encodes texts in the encoder's deployment.

    Args:
        encoder: handle of the deployment.
        metrics: where retries are counted.
    """

    def __init__(self, encoder: DeploymentHandle, metrics: ServingMetrics) -> None:
        self._encoder, self._metrics = encoder, metrics

    async def encode(
        self, uri: str, texts: Sequence[str], kind: PromptKind, instruction: str
    ) -> tuple[np.ndarray, int]:
        """Returns (texts, dim) unit vectors by the model of an index, and the number of tokens."""
        result: tuple[np.ndarray, int] = await call_deployment(
            lambda: self._encoder.encode.remote(uri, texts, kind, instruction), self._metrics
        )
        return result


class RemoteStore:
    """Searches the shards of an index that another deployment holds.

    Args:
        shard: handle of the deployment.
        metrics: where retries are counted.
    """

    def __init__(self, shard: DeploymentHandle, metrics: ServingMetrics) -> None:
        self._shard, self._metrics = shard, metrics

    async def search_dense(
        self, uri: str, vectors: np.ndarray, k: int, document_filter: DocumentFilter
    ) -> list[RankedPositions]:
        """Returns the k documents of the shards nearest to each of (queries, dim) unit vectors."""
        rankings: list[RankedPositions] = await call_deployment(
            lambda: self._shard.search_dense.remote(uri, vectors, k, document_filter), self._metrics
        )
        return rankings

    async def search_bm25(self, uri: str, query: str, k: int, document_filter: DocumentFilter) -> RankedPositions:
        """Returns the k documents of the shards with the best BM25 scores for a query."""
        ranking: RankedPositions = await call_deployment(
            lambda: self._shard.search_bm25.remote(uri, query, k, document_filter), self._metrics
        )
        return ranking

    async def documents(
        self, uri: str, positions: Sequence[int], with_text: bool = True, max_bytes: int | None = None
    ) -> dict[int, dict[str, str]]:
        """Returns ``doc_id``, ``task`` and, if wanted, ``text`` by position, for those positions that lie in these
        shards.

        Raises:
            RequestRefused: the texts have more than ``max_bytes`` bytes.
        """
        documents: dict[int, dict[str, str]] = await call_deployment(
            lambda: self._shard.documents.remote(uri, positions, with_text, max_bytes), self._metrics
        )
        return documents
