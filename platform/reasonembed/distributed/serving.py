"""Ray Serve around the API: one deployment that encodes in batches and searches."""

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict
from ray import serve

from reasonembed import artifacts, storage
from reasonembed.config import Config
from reasonembed.distributed.session import WORKER_ENV, start_ray
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
        return [(await self._encode_one(text)).tolist() for text in texts]

    async def search(
        self, query: str, instruction: str, top_k: int, task: str | None, exclude_ids: Sequence[str]
    ) -> list[dict[str, Any]]:
        vector = await self._encode_one(self._searcher.query_text(query, instruction))
        hits = self._searcher.search(vector[None], top_k, task, exclude_ids)[0]
        return [{"doc_id": h.doc_id, "task": h.task, "score": round(h.score, 6), "text": h.text} for h in hits]

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.005)
    async def _encode_one(self, texts: list[str]) -> list[Any]:
        return list(self._searcher.encode(texts))


def build(args: ServeArgs) -> serve.Application:
    """The application, for ``serve run`` and for ``jobs/serve.py``."""
    index_uri = args.index or find_index(args.run_root)
    holder: dict[str, Retrieval] = {}

    class Late:
        """Stands for the replica's backend, which exists only once the replica runs."""

        def __getattr__(self, name: str) -> Any:
            return getattr(holder["backend"], name)

    app: FastAPI = create_app(Late())

    @serve.deployment(
        name="retrieval",
        num_replicas=args.replicas,
        max_ongoing_requests=128,  # the default of 5 would cap every batch at 5
        ray_actor_options={"num_cpus": 1, "runtime_env": {"env_vars": WORKER_ENV}},
    )
    @serve.ingress(app)
    class Gateway:
        def __init__(self) -> None:
            holder["backend"] = Retrieval(index_uri)

    return Gateway.bind()  # type: ignore[attr-defined, no-any-return]


def find_index(run_root: str) -> str:
    """The index that the run's summary names.

    Raises:
        UserError: the run has no summary or its index is not there.
    """
    import json

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
