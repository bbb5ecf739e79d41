"""Replica of the deployment ``gateway``, which answers HTTP requests."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from ray.serve.handle import DeploymentHandle

from reasonembed import storage
from reasonembed.distributed.serve.application_args import GatewayUserConfig, ServeArgs
from reasonembed.distributed.serve.deployment_calls import RemoteEncoder, RemoteStore
from reasonembed.distributed.serve.encoder_replica import EncoderReplica
from reasonembed.distributed.serve.prometheus_metrics import ServingMetrics
from reasonembed.distributed.serve.ray_serve_internals import SERVE_LOGGER, log_through_serve
from reasonembed.distributed.serve.shard_replica import search_with_one_thread
from reasonembed.pipeline.lineage import find_training
from reasonembed.serving.api import create_app
from reasonembed.serving.api_keys import read_keys
from reasonembed.serving.encoders import ServedModel
from reasonembed.serving.index_pointer import candidate_indexes, latest_index
from reasonembed.serving.index_store import LocalStore, ShardedStore
from reasonembed.serving.middleware import RequestMiddleware, RequestRecord
from reasonembed.serving.service import SearchService

STATE_SECONDS = 2  # between two reports of the gauges
MIN_KEYS_SECONDS = 1.0  # between two checks of the file with the keys
MAX_LOGGED_PATH = 200  # characters of a request's path in the log

logger = logging.getLogger(SERVE_LOGGER)


class GatewayReplica:
    """Answers HTTP requests, and follows the pointer to the index that is served and the file with the keys.

    Args:
        args: of the application.
        encoder: the deployment that runs the model; None: this process runs it.
        shards: the deployments that hold the index; none: this process holds it.
    """

    def __init__(self, args: ServeArgs, encoder: DeploymentHandle | None, shards: Sequence[DeploymentHandle]) -> None:
        self._args = args
        search_with_one_thread()
        log_through_serve("reasonembed")
        self._metrics = ServingMetrics()
        self._local_encoder = EncoderReplica(args, self._metrics) if encoder is None else None
        encode = self._local_encoder.encode if self._local_encoder else RemoteEncoder(encoder, self._metrics).encode
        store = ShardedStore([RemoteStore(shard, self._metrics) for shard in shards]) if shards else LocalStore()
        self._service = SearchService(encode, store, args, _matryoshka_dimensions, self._metrics.observe_stage)
        self._pinned_index: str | None = args.index
        self._keys = read_keys(args.keys_file)
        self._tasks: list[asyncio.Task[None]] = []

    def check_health(self) -> None:
        """Called by Ray Serve, which replaces the replica if this raises an error."""
        if self._local_encoder:
            self._local_encoder.check_health()

    def build_asgi_app(self) -> RequestMiddleware:
        """Returns the application that answers the requests; called by Ray Serve (see ``asgi_ingress``)."""
        return create_app(self._service, self._args, self._keys, self._record_request)

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Called by Ray Serve before the first request, and whenever ``user_config`` changes.

        Args:
            user_config: see ``GatewayUserConfig``.

        Raises:
            NoServableIndexError: at the start no index can be served. Later an index that cannot be served is rejected,
                and the current one stays.
        """
        self._pinned_index = GatewayUserConfig.model_validate(user_config).index or self._args.index
        active_index = self._service.active_index
        if active_index.version is None:
            uris = await asyncio.to_thread(candidate_indexes, self._pinned_index, self._args.run_root)
            await active_index.activate_first(uris)
        else:
            await self._update_index()
        if not self._tasks:
            tasks = (self._poll_pointer(), self._poll_keys(), self._report_state())
            self._tasks = [asyncio.create_task(task) for task in tasks]

    async def _poll_pointer(self) -> None:
        while True:
            await asyncio.sleep(self._args.poll_seconds)
            if self._pinned_index is None:
                await self._update_index()

    async def _poll_keys(self) -> None:
        while True:
            await asyncio.sleep(max(MIN_KEYS_SECONDS, self._args.poll_seconds))
            await asyncio.to_thread(self._keys.reload)

    async def _report_state(self) -> None:
        while True:
            self._metrics.report_state(self._service.version, self._service.waiting_texts)
            await asyncio.sleep(STATE_SECONDS)

    async def _update_index(self) -> None:
        if (uri := self._pinned_index) is None:
            try:
                uri = await asyncio.to_thread(latest_index, self._args.run_root)
            except Exception as error:  # noqa: BLE001  The cause may pass, and the pointer must be polled again.
                logger.warning("the pointer to the index cannot be read, the current index stays: %s", error)
                return
        await self._service.active_index.activate(storage.absolute(uri))

    def _record_request(self, record: RequestRecord) -> None:
        self._metrics.observe_request(record)
        fields = {"method": record.method, "path": record.path[:MAX_LOGGED_PATH], "status": record.status}
        fields |= {"key": record.key, "code": record.code}
        fields |= {"milliseconds": round(1000 * record.seconds, 2), **record.details}
        # Ray Serve adds the request's id.
        logger.info("request", extra={name: value for name, value in fields.items() if value is not None})


def _matryoshka_dimensions(model: ServedModel) -> tuple[int, ...]:
    training = find_training(model.source)
    return tuple(training.record["config"]["train"]["matryoshka_dims"]) if training is not None else ()
