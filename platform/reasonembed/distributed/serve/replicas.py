"""What runs in Ray Serve's replicas: gateways answer HTTP, encoders run the model, shards hold the index."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle

from reasonembed import storage
from reasonembed.config import Resources, Serve
from reasonembed.distributed.serve.prometheus_metrics import ServingMetrics
from reasonembed.errors import UserError
from reasonembed.pipeline.lineage import training_of
from reasonembed.serving.api import create_app
from reasonembed.serving.async_cache import AsyncCache
from reasonembed.serving.encoders import ENGINES, Prompt, ServedModel, TextEncoder, prompted
from reasonembed.serving.index_pointer import candidates, latest_index
from reasonembed.serving.index_shards import DocumentFilter, Found, finished_index
from reasonembed.serving.keys import read_keys
from reasonembed.serving.middleware import RequestMiddleware, RequestRecord
from reasonembed.serving.refusals import RequestRefused
from reasonembed.serving.request_batcher import RequestBatcher
from reasonembed.serving.service import Service
from reasonembed.serving.store import LocalStore, ShardedStore

logger = logging.getLogger("ray.serve")

STUCK_SECONDS = 120
SHOW_SECONDS = 2


class ServeArgs(Serve):
    """Arguments of the application: the section ``serve`` of a configuration, and the run whose index is served."""

    run_root: str = "runs/quickstart"
    """Root of a finished pipeline run."""
    place: Resources = Resources()
    """What an encoder asks Ray for; gateways beside encoders go to the same pool, without its GPUs."""
    search: Resources = Resources(cpus=0.5)
    """What each of ``search_shards`` asks Ray for; with a GPU, that is where it searches."""


class GatewayUserConfig(BaseModel):
    """``user_config`` of the gateway: what can be changed while it answers."""

    model_config = ConfigDict(extra="forbid")

    index: str | None = None
    """Folder of a finished index, instead of what the arguments say."""


class Encoder:
    """Runs the model of whichever index a call names, for many requests at a time."""

    def __init__(self, args: ServeArgs, metrics: ServingMetrics | None = None) -> None:
        self._args = args
        self._metrics = metrics or ServingMetrics()
        self._models: AsyncCache[str, ServedModel] = AsyncCache(lambda uri: ServedModel.of(finished_index(uri)))
        self._encoders: AsyncCache[ServedModel, tuple[TextEncoder, RequestBatcher]] = AsyncCache(self._open)
        self._batchers: list[RequestBatcher] = []

    async def encode(self, uri: str, texts: Sequence[str], prompt: Prompt, instruction: str) -> tuple[np.ndarray, int]:
        """As ``serving.service.Encode``.

        Raises:
            RequestRefused: the texts have more tokens than a request may.
        """
        model = await self._models.get(uri)
        encoder, batcher = await self._encoders.get(model)  # of two indexes with one model the same
        ids = encoder.tokenize(prompted(texts, prompt, instruction, encoder, model.encode))
        tokens = sum(map(len, ids))
        if tokens > self._args.tokens:
            raise RequestRefused(413, "too_long", f"a request may have {self._args.tokens} tokens, not {tokens}")
        return await batcher.encode(ids), tokens

    def check_health(self) -> None:
        busy = max((batcher.busy_seconds for batcher in self._batchers), default=0.0)
        if busy > STUCK_SECONDS:
            raise RuntimeError(f"the model has been at one batch for {busy:.0f} s")

    def _open(self, model: ServedModel) -> tuple[TextEncoder, RequestBatcher]:
        encoder = ENGINES[self._args.engine](model, self._args, self._args.place.device)
        batcher = RequestBatcher(encoder.encode, self._args.batch_tokens, self._metrics.batch)
        self._batchers = [*self._batchers[-1:], batcher]
        return encoder, batcher


class Shard(LocalStore):
    """A part of the index, where the whole of it is too large for one machine."""

    def __init__(self, number: int, parts: int, device: str) -> None:
        _search_with_one_thread()
        super().__init__(number, parts, device)


class Gateway:
    """Answers HTTP.

    Args:
        args: of the application.
        encoder: the deployment that runs the model; None: this process does.
        shards: those that hold the index; none: this process does.
    """

    def __init__(self, args: ServeArgs, encoder: DeploymentHandle | None, shards: Sequence[DeploymentHandle]) -> None:
        self._args = args
        _search_with_one_thread()
        own = logging.getLogger("reasonembed")  # what our parts say goes where Ray Serve's messages go
        own.handlers, own.propagate = logger.handlers, False
        self.metrics = ServingMetrics()
        spread = ShardedStore([RemoteStore(shard, self.metrics) for shard in shards]) if shards else None

        self._own = Encoder(args, self.metrics) if encoder is None else None

        async def ask(uri: str, texts: Sequence[str], prompt: Prompt, instruction: str) -> Any:
            assert encoder is not None
            return await _asked(lambda: encoder.encode.remote(uri, texts, prompt, instruction), self.metrics)

        self.service = Service(
            self._own.encode if self._own else ask, spread or LocalStore(), args, _dimensions, self.metrics.stage
        )
        self._pinned: str | None = args.index
        self._tasks: list[asyncio.Task[None]] = []

    def check_health(self) -> None:
        if self._own:
            self._own.check_health()

    def __serve_build_asgi_app__(self) -> RequestMiddleware:
        return create_app(self.service, self._args, read_keys(self._args.keys_file), self._seen)

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Called once before the first request, and whenever ``user_config`` changes.

        Raises:
            RuntimeError: there is no fit index to begin with. Later on an unfit one is refused, and the one before
                stays.
        """
        self._pinned = GatewayUserConfig.model_validate(user_config).index or self._args.index
        if self.service.live.version is None:
            await self.service.live.start(await asyncio.to_thread(candidates, self._pinned, self._args.run_root))
        else:
            await self._look()
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._follow()), asyncio.create_task(self._show())]

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._args.poll_seconds)
            if self._pinned is None:
                await self._look()

    async def _show(self) -> None:
        while True:
            self.metrics.state(self.service.version, self.service.waiting)
            await asyncio.sleep(SHOW_SECONDS)

    async def _look(self) -> None:
        try:
            wanted = (
                self._pinned if self._pinned is not None else await asyncio.to_thread(latest_index, self._args.run_root)
            )
        except Exception as error:  # noqa: BLE001  whatever it is may pass, and the next look must still come
            logger.warning("the index's pointer cannot be read, the one that answers stays: %s", error)
            return
        await self.service.live.change_to(storage.absolute(wanted))

    def _seen(self, seen: RequestRecord) -> None:
        self.metrics.request(seen)
        told = {"method": seen.method, "path": seen.path, "status": seen.status, "key": seen.key, "code": seen.code}
        told |= {"milliseconds": round(1000 * seen.seconds, 2), **seen.details}
        # Ray Serve adds the request's id.
        logger.info("request", extra={name: value for name, value in told.items() if value is not None})


class RemoteStore:
    """A part of the index in another process."""

    def __init__(self, shard: DeploymentHandle, metrics: ServingMetrics) -> None:
        self._shard, self._metrics = shard, metrics

    async def dense(self, uri: str, vectors: np.ndarray, k: int, within: DocumentFilter) -> list[Found]:
        found: list[Found] = await _asked(lambda: self._shard.dense.remote(uri, vectors, k, within), self._metrics)
        return found

    async def lexical(self, uri: str, query: str, k: int, within: DocumentFilter) -> Found:
        found: Found = await _asked(lambda: self._shard.lexical.remote(uri, query, k, within), self._metrics)
        return found

    async def documents(self, uri: str, positions: Sequence[int]) -> dict[int, dict[str, str]]:
        found: dict[int, dict[str, str]] = await _asked(
            lambda: self._shard.documents.remote(uri, positions), self._metrics
        )
        return found


def _search_with_one_thread() -> None:
    """Many searches run side by side. More threads for each would mostly wait for one another, at full speed."""
    import faiss

    faiss.omp_set_num_threads(1)


async def _asked(call: Callable[[], Awaitable[Any]], metrics: ServingMetrics) -> Any:
    """The answer of another deployment; asked once more when the replica that was asked has gone."""
    try:
        try:
            return await call()
        except RayActorError:
            metrics.retried()
            return await call()
    except RayTaskError as error:
        if isinstance(error.cause, RequestRefused | UserError):
            raise error.cause from None
        raise
    except RayActorError:
        raise RequestRefused(503, "unavailable", "a replica was lost twice", retry_after=1) from None
    except BackPressureError:
        raise RequestRefused(503, "overloaded", "too many requests are waiting", retry_after=1) from None


def _dimensions(model: ServedModel) -> tuple[int, ...]:
    training = training_of(model.place)
    return tuple(training.record["config"].get("matryoshka_dims", ())) if training is not None else ()
