"""The HTTP API as a factory over a protocol: whoever can encode and search can stand behind it."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, Literal, Protocol

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

MAX_QUERIES = 64
MAX_CHARS = 32_768


class Backend(Protocol):
    """Async, so that a deployment may batch the calls of many requests."""

    def encode(self, texts: Sequence[str]) -> Awaitable[list[list[float]]]: ...

    def search(
        self, query: str, instruction: str, top_k: int, task: str | None, exclude_ids: Sequence[str]
    ) -> Awaitable[list[dict[str, Any]]]: ...

    def describe(self) -> dict[str, Any]: ...


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SearchRequest(Strict):
    query: str | list[str] = Field(description="One question or several.", examples=["keep the k best of a stream"])
    task: str | None = Field(None, description="Search the documents of this task only.")
    instruction: str = Field("", description="What to retrieve, for models that were trained with instructions.")
    top_k: int = Field(10, ge=1, le=1000)
    exclude_ids: list[str] = Field([], max_length=20_000, description="Documents that must not be found.")
    return_text: bool = True

    def queries(self) -> list[str]:
        return [self.query] if isinstance(self.query, str) else self.query


class EmbeddingsRequest(Strict):
    input: str | list[str]
    model: str = ""
    encoding_format: Literal["float"] = "float"

    def texts(self) -> list[str]:
        return [self.input] if isinstance(self.input, str) else self.input


class ApiError(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


def create_app(backend: Backend) -> FastAPI:
    app = FastAPI(title="reasonembed", summary="Search for documents that help, whatever words they use.")

    @app.exception_handler(ApiError)
    async def _api_error(_: Request, error: ApiError) -> JSONResponse:
        return _error(error.status, error.code, str(error))

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return _error(422, "invalid_request", f"{where}: {first['msg']}")

    @app.post("/v1/search")
    async def search(request: SearchRequest) -> dict[str, Any]:
        """Documents for one question or several, best first."""
        queries = _checked(request.queries())
        about = backend.describe()
        if request.task is not None and request.task not in about["tasks"]:
            raise ApiError(404, "unknown_task", f"no task {request.task!r}; there are {', '.join(about['tasks'])}")
        found = await asyncio.gather(
            *(backend.search(q, request.instruction, request.top_k, request.task, request.exclude_ids) for q in queries)
        )
        if not request.return_text:
            found = [[{key: value for key, value in hit.items() if key != "text"} for hit in hits] for hits in found]
        results = [{"query": query, "hits": hits} for query, hits in zip(queries, found, strict=True)]
        return {"model": about["id"], "index": about["index"], "results": results}

    @app.post("/v1/embeddings")
    async def embeddings(request: EmbeddingsRequest) -> dict[str, Any]:
        """Unit vectors of texts as they are, in the shape of OpenAI's endpoint."""
        vectors = await backend.encode(_checked(request.texts()))
        data = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)]
        return {"object": "list", "model": backend.describe()["id"], "data": data}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"object": "model", **backend.describe()}]}

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> dict[str, str]:
        # The replica takes requests only once its model and index are open.
        return {"status": "ready", "index": backend.describe()["index"]}

    return app


def _checked(texts: list[str]) -> list[str]:
    if not 1 <= len(texts) <= MAX_QUERIES:
        raise ApiError(422, "invalid_request", f"1 to {MAX_QUERIES} texts a request, not {len(texts)}")
    for text in texts:
        if not text.strip():
            raise ApiError(422, "invalid_request", "a text is empty")
        if len(text) > MAX_CHARS:
            raise ApiError(413, "too_long", f"a text may have {MAX_CHARS} characters, not {len(text)}")
    return texts


def _error(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse({"error": {"code": code, "message": message}}, status_code=status)
