"""The HTTP API over a ``Service``."""

import base64
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from reasonembed import __version__
from reasonembed.config import Serve
from reasonembed.serving import messages
from reasonembed.serving.active_index import Version
from reasonembed.serving.index_shards import DocumentFilter
from reasonembed.serving.keys import Keys
from reasonembed.serving.middleware import RequestMiddleware, RequestRecord, error_body
from reasonembed.serving.refusals import RequestRefused
from reasonembed.serving.service import Service

MAX_CHARS = 200_000  # of a text; a tokenizer reads all of it before it is cut
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": messages.ErrorAnswer, "description": about}
    for status, about in {
        401: "No valid key.",
        404: "No such task or model.",
        408: "The request came too slowly.",
        413: "Too large.",
        422: "Not a valid request.",
        429: "The key's allowance is used up.",
        503: "Not ready, or too much to do: try again after `Retry-After` seconds.",
    }.items()
}


def create_app(
    service: Service,
    settings: Serve,
    keys: Keys | None = None,
    on_request: Callable[[RequestRecord], None] = lambda seen: None,
) -> RequestMiddleware:
    """
    Args:
        service: that answers.
        settings: limits.
        keys: of those who may ask; everybody may, without.
        on_request: told of every request when it is over.
    """
    app = FastAPI(
        title="reasonembed",
        version=__version__,
        summary="Search for documents that help, whatever words they use.",
    )

    def checked(texts: Sequence[str], request: Request) -> Version:
        _check_texts(texts, settings)
        version = service.version
        seen = request.state.seen
        seen.details |= {"texts": len(texts), "model": version.model.name, "index": version.id}
        if settings.log_queries:
            seen.details["queries"] = list(texts)
        return version

    @app.exception_handler(RequestRefused)
    async def refused(request: Request, error: RequestRefused) -> Response:
        return _refusal(request, error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body")
        return _refusal(
            request, RequestRefused(422, "invalid_request", f"{where or 'body'}: {first['msg']}"), where or None
        )

    @app.exception_handler(Exception)
    async def failed(request: Request, _: Exception) -> Response:
        return _refusal(request, RequestRefused(500, "internal_error", "the server failed; its log says why"))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        codes = {404: "not_found", 405: "method_not_allowed"}
        answer = _refusal(
            request,
            RequestRefused(error.status_code, codes.get(error.status_code, "invalid_request"), str(error.detail)),
        )
        answer.headers.update(error.headers or {})
        return answer

    @app.post("/v1/search", response_model=messages.SearchAnswer, responses=ERRORS)
    async def search(body: messages.SearchRequest, request: Request) -> Response:
        """Documents for one question or several, best first."""
        queries = body.queries()
        version = checked(queries, request)
        if body.task is not None and body.task not in version.tasks:
            raise RequestRefused(404, "unknown_task", f"no task {body.task!r}; there are {', '.join(version.tasks)}")
        found, tokens = await service.search(
            version,
            queries,
            body.instruction,
            body.mode,
            body.fusion,
            body.top_k,
            DocumentFilter(body.task, tuple(body.exclude_ids)),
        )
        request.state.seen.details["tokens"] = tokens
        if not body.return_text:
            found = [[{key: value for key, value in hit.items() if key != "text"} for hit in hits] for hits in found]
        results = [{"query": query, "hits": hits} for query, hits in zip(queries, found, strict=True)]
        return _json({"model": version.model.name, "index": version.id, "results": results})

    @app.post("/v1/embeddings", response_model=messages.EmbeddingsAnswer, responses=ERRORS)
    async def embeddings(body: messages.EmbeddingsRequest, request: Request) -> Response:
        """Unit vectors of texts as they are, in the shape of OpenAI's endpoint."""
        version = checked(body.texts(), request)
        if body.model and body.model != version.model.name:
            raise RequestRefused(404, "model_not_found", f"no model {body.model!r}; {version.model.name!r} is live")
        if body.dimensions is not None and body.dimensions not in version.dimensions:
            allowed = ", ".join(map(str, version.dimensions)) or "none, it was not trained for any"
            raise RequestRefused(422, "invalid_request", f"dimensions: {version.model.name} can be cut to {allowed}")
        vectors, tokens = await service.embed(version, body.texts())
        request.state.seen.details["tokens"] = tokens
        if body.dimensions is not None:
            vectors = vectors[:, : body.dimensions]
            vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        encoded = _base64(vectors) if body.encoding_format == "base64" else vectors.tolist()
        return _json(
            {
                "object": "list",
                "model": version.model.name,
                "data": [{"object": "embedding", "index": i, "embedding": one} for i, one in enumerate(encoded)],
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            }
        )

    @app.get("/v1/models", response_model=messages.ModelsAnswer, responses={s: ERRORS[s] for s in (401, 429, 503)})
    async def models() -> Response:
        """The model that is live, and the index that was made with it."""
        return _json({"object": "list", "data": [_about(service.version)]})

    @app.get("/healthz", response_model=messages.Ready)
    async def healthz() -> Response:
        """The process answers."""
        return _json({"status": "ok"})

    @app.get("/readyz", response_model=messages.Ready, responses={503: ERRORS[503]})
    async def readyz() -> Response:
        """An index is live."""
        return _json({"status": "ready", "index": service.version.id})

    return RequestMiddleware(app, settings, keys or Keys({}), on_request)  # type: ignore[arg-type]


def _about(version: Version) -> dict[str, Any]:
    finished = datetime.strptime(version.index.record["finished"], "%Y-%m-%dT%H:%M:%S%z")
    figures = version.index.figures
    return {
        "id": version.model.name,
        "object": "model",
        "created": int(finished.timestamp()),
        "owned_by": "reasonembed",
        "index": version.id,
        "index_kind": version.index.record["config"]["index"]["kind"],
        "documents": figures["rows"],
        "dimension": figures["dimension"],
        "dimensions": list(version.dimensions),
        "max_tokens": version.model.encode.max_tokens,
        "tasks": version.tasks,
    }


def _check_texts(texts: Sequence[str], settings: Serve) -> None:
    if not 1 <= len(texts) <= settings.texts:
        raise RequestRefused(422, "invalid_request", f"1 to {settings.texts} texts a request, not {len(texts)}")
    for text in texts:
        if not text.strip():
            raise RequestRefused(422, "invalid_request", "a text is empty")
        if len(text) > MAX_CHARS:
            raise RequestRefused(413, "too_long", f"a text may have {MAX_CHARS} characters, not {len(text)}")
        if not text.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise RequestRefused(422, "invalid_request", "a text holds half a surrogate pair, which is no character")


def _base64(vectors: np.ndarray) -> list[str]:
    return [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in vectors]


def _refusal(request: Request, refused: RequestRefused, param: str | None = None) -> Response:
    request.state.seen.code = refused.code
    answer = _json(error_body(refused, param), refused.status)
    if refused.retry_after:
        answer.headers["retry-after"] = str(refused.retry_after)
    return answer


def _json(content: Any, status: int = 200) -> Response:
    return Response(json.dumps(content, ensure_ascii=False), status, media_type="application/json")
