"""Ray Serve around the API: one deployment that encodes in batches and searches."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict
from ray import serve

from reasonembed import artifacts, storage
from reasonembed.config import Config
from reasonembed.distributed.session import start_ray
from reasonembed.errors import UserError
from reasonembed.serving.api import create_app
from reasonembed.serving.searcher import Searcher

SUMMARY = "summary.json"


class ServeArgs(BaseModel):
    """Arguments of the application."""

    model_config = ConfigDict(extra="forbid")

    run_root: str = "runs/quickstart"
    """Root of a finished pipeline run."""
    index: str | None = None
    """URI of an index artefact, instead of the run's own."""
    replicas: int = 1


class Retrieval:
    """The backend of the API: requests that arrive together are encoded together."""

    def __init__(self, index_uri: str) -> None:
        self._searcher = Searcher(index_uri)

    def describe(self) -> dict[str, Any]:
        return self._searcher.describe()

    async def encode(self, texts: Sequence[str]) -> list[list[float]]:
        return [vector.tolist() for vector in await asyncio.gather(*map(self._encode_one, texts))]

    async def search(
        self, query: str, instruction: str, top_k: int, task: str | None, exclude_ids: Sequence[str]
    ) -> list[dict[str, Any]]:
        vector = await self._encode_one(self._searcher.query_text(query, instruction))
        hits = self._searcher.search(vector[None], top_k, task, exclude_ids)[0]
        return [{"doc_id": h.doc_id, "task": h.task, "score": round(h.score, 6), "text": h.text} for h in hits]

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.005)
    async def _encode_one(self, texts: list[str]) -> list[Any]:
        # In a thread, so that the replica still answers its health checks while a long batch is encoded.
        return list(await asyncio.to_thread(self._searcher.encode, texts))


# The API is pickled before any backend exists, so it finds the one of its replica's process here.
_of_this_process: dict[str, Retrieval] = {}


def _open_backend(index_uri: str) -> None:
    # A function of the module: the class below is pickled by value, and would fill a copy of the dictionary.
    _of_this_process["backend"] = Retrieval(index_uri)


class _Late:
    """Stands for the backend of the process in which it is used."""

    def describe(self) -> dict[str, Any]:
        return _of_this_process["backend"].describe()

    async def encode(self, texts: Sequence[str]) -> list[list[float]]:
        return await _of_this_process["backend"].encode(texts)

    async def search(self, *arguments: Any) -> list[dict[str, Any]]:
        return await _of_this_process["backend"].search(*arguments)


def build(args: ServeArgs) -> serve.Application:
    """The application, for ``serve run`` and for ``jobs/serve.py``."""
    index_uri = args.index or find_index(args.run_root)

    @serve.deployment(
        name="retrieval",
        num_replicas=args.replicas,
        max_ongoing_requests=128,  # the default of 5 would cap every batch at 5
        ray_actor_options={"num_cpus": 1},
    )
    @serve.ingress(create_app(_Late()))
    class Gateway:
        def __init__(self) -> None:
            _open_backend(index_uri)

    return Gateway.bind()  # type: ignore[attr-defined, no-any-return]


def find_index(run_root: str) -> str:
    """The index that the run's summary names.

    Raises:
        UserError: the run has no summary or its index is not there.
    """
    path = storage.join(storage.absolute(run_root), SUMMARY)
    if not storage.exists(path):
        raise UserError(f"{run_root} holds no finished run ({SUMMARY} is missing); run `make quickstart` first")
    uri = str(json.loads(storage.read_bytes(path))["artifacts"]["index"])
    if artifacts.load(uri) is None:
        raise UserError(f"{path} names the index {uri}, which is not there; run `make quickstart` again")
    return uri


def serve_forever(config: Config) -> None:
    """Serve the run's index on ``serve.host:port`` until interrupted."""
    args = ServeArgs(run_root=config.run.root)
    find_index(args.run_root)  # before Ray starts, so that the message comes at once
    start_ray()
    serve.start(http_options={"host": config.serve.host, "port": config.serve.port})
    serve.run(build(args), name="search", route_prefix="/", blocking=True)
