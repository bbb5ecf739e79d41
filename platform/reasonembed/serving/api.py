"""The HTTP API of the search service, as a FastAPI application."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from reasonembed import __version__
from reasonembed.config import Serve
from reasonembed.serving import messages
from reasonembed.serving.active_index import IndexVersion
from reasonembed.serving.api_keys import ApiKeys
from reasonembed.serving.event_loop import run_in_thread_if
from reasonembed.serving.index_record import finished_at
from reasonembed.serving.index_shards import DocumentFilter
from reasonembed.serving.json_pieces import dump_json, embedding_pieces, join_pieces, search_pieces
from reasonembed.serving.limits import DECIMAL_BYTES, check_texts, check_vectors
from reasonembed.serving.middleware import RequestMiddleware, RequestRecord, error_body
from reasonembed.serving.refusals import RequestRefused
from reasonembed.serving.service import SearchService

LOOP_BYTES = 1 << 18  # of a response that is encoded on the event loop, in about 2 ms; a larger one takes a thread
HIT_BYTES = 150  # of a hit beside its text, roughly
ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": messages.ErrorResponse, "description": description}
    for status, description in {
        401: "No valid key.",
        403: "Without keys: not sent by a program on the endpoint's own machine.",
        404: "Unknown task or model.",
        408: "The request arrived too slowly.",
        413: "The request, or its response, is too large.",
        422: "Not a valid request.",
        429: "The key has sent too many requests.",
        503: "Not ready or overloaded: retry after `Retry-After` seconds.",
    }.items()
}


def create_app(
    service: SearchService,
    settings: Serve,
    keys: ApiKeys | None = None,
    on_request: Callable[[RequestRecord], None] = lambda record: None,
) -> RequestMiddleware:
    """Returns the ASGI application: the API inside the middleware.

    Args:
        service: that answers the requests.
        settings: the section ``serve``, with the limits.
        keys: that give access; without any, only requests from this machine are admitted.
        on_request: called with the record of every request when it ends.
    """
    app = FastAPI(
        title="reasonembed",
        version=__version__,
        summary="Search for documents that help, whatever words they use.",
    )
    _add_error_handlers(app)

    def begin(texts: Sequence[str], request: Request) -> IndexVersion:
        """Checks the texts of a request, completes its record, and returns the version that answers it."""
        check_texts(texts, settings)
        version = service.version
        record = request.state.record
        record.details |= {"texts": len(texts), "model": version.model.name, "index": version.id}
        if settings.log_queries:
            record.details["queries"] = list(texts)
        return version

    async def large_response(size: int, pieces: Iterator[str]) -> Response:
        """Encodes a response that may be large; ``size`` is a rough number of bytes."""
        body = await run_in_thread_if(size > LOOP_BYTES, join_pieces, pieces, settings.response_bytes)
        return Response(body, media_type="application/json")

    @app.post("/v1/search", response_model=messages.SearchResponse, responses=ERROR_RESPONSES)
    async def search(body: messages.SearchRequest, request: Request) -> Response:
        """Returns documents for one question or several, best first."""
        queries = body.queries()
        version = begin(queries, request)
        if body.task is not None and body.task not in version.tasks:
            raise RequestRefused(
                404, "unknown_task", f"no task {body.task!r}; the tasks are {', '.join(version.tasks)}"
            )
        results, tokens = await service.search(
            version,
            queries,
            body.instruction,
            body.mode,
            body.fusion,
            body.top_k,
            DocumentFilter(body.task, tuple(body.exclude_ids)),
            body.return_text,
        )
        request.state.record.details["tokens"] = tokens
        size = sum(map(len, queries)) + sum(len(hit.get("text", "")) + HIT_BYTES for hits in results for hit in hits)
        return await large_response(size, search_pieces(version.model.name, version.id, queries, results))

    @app.post("/v1/embeddings", response_model=messages.EmbeddingsResponse, responses=ERROR_RESPONSES)
    async def embeddings(body: messages.EmbeddingsRequest, request: Request) -> Response:
        """Returns unit vectors of texts as they are, in the format of OpenAI."""
        version = begin(body.texts(), request)
        if body.model and body.model != version.model.name:
            raise RequestRefused(404, "model_not_found", f"no model {body.model!r}; {version.model.name!r} is live")
        if body.dimensions is not None and body.dimensions not in version.dimensions:
            allowed = ", ".join(map(str, version.dimensions)) or "no other length; it was not trained for any"
            raise RequestRefused(422, "invalid_request", f"dimensions: {version.model.name} can be cut to {allowed}")
        in_base64 = body.encoding_format == "base64"
        dimension = body.dimensions or int(version.index.figures["dimension"])
        check_vectors(len(body.texts()), dimension, in_base64, settings)
        vectors, tokens = await service.embed(version, body.texts())
        request.state.record.details["tokens"] = tokens
        if body.dimensions is not None:
            vectors = vectors[:, : body.dimensions]
            vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        size = vectors.size * DECIMAL_BYTES
        return await large_response(size, embedding_pieces(version.model.name, vectors, tokens, in_base64))

    @app.get(
        "/v1/models",
        response_model=messages.ModelsResponse,
        responses={status: ERROR_RESPONSES[status] for status in (401, 403, 429, 503)},
    )
    async def models() -> Response:
        """Returns the model that is live, and the index that was built with it."""
        return _json_response({"object": "list", "data": [_model_info(service.version)]})

    @app.get("/healthz", response_model=messages.HealthResponse)
    async def healthz() -> Response:
        """Answers 200 while the process runs."""
        return _json_response({"status": "ok"})

    @app.get("/readyz", response_model=messages.HealthResponse, responses={503: ERROR_RESPONSES[503]})
    async def readyz() -> Response:
        """Answers 200 while an index is live."""
        return _json_response({"status": "ready", "index": service.version.id})

    routes = {str(getattr(route, "path", "")) for route in app.routes}
    return RequestMiddleware(app, settings, keys or ApiKeys({}), on_request, routes)  # type: ignore[arg-type]


def _add_error_handlers(app: FastAPI) -> None:
    """Lets every error become a response in the format of OpenAI."""

    @app.exception_handler(RequestRefused)
    async def refusal(request: Request, error: RequestRefused) -> Response:
        return _error_response(request, error)

    @app.exception_handler(RequestValidationError)
    async def validation_error(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"] if part != "body")
        refusal = RequestRefused(422, "invalid_request", f"{field or 'body'}: {first['msg']}")
        return _error_response(request, refusal, field or None)

    @app.exception_handler(Exception)
    async def internal_error(request: Request, _: Exception) -> Response:
        message = "internal error; the server's log has the cause"
        return _error_response(request, RequestRefused(500, "internal_error", message))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
        response = _error_response(request, RequestRefused(error.status_code, code, str(error.detail)))
        response.headers.update(error.headers or {})
        return response


def _model_info(version: IndexVersion) -> dict[str, Any]:
    figures = version.index.figures
    return {
        "id": version.model.name,
        "object": "model",
        "created": int(finished_at(version.index).timestamp()),
        "owned_by": "reasonembed",
        "index": version.id,
        "index_kind": version.index.record["config"]["index"]["kind"],
        "documents": figures["rows"],
        "dimension": figures["dimension"],
        "dimensions": list(version.dimensions),
        "max_tokens": version.model.encode.max_tokens,
        "tasks": version.tasks,
    }


def _error_response(request: Request, refusal: RequestRefused, param: str | None = None) -> Response:
    request.state.record.code = refusal.code
    response = _json_response(error_body(refusal, param), refusal.status)
    if refusal.retry_after:
        response.headers["retry-after"] = str(refusal.retry_after)
    return response


def _json_response(content: Any, status: int = 200) -> Response:
    return Response(dump_json(content), status, media_type="application/json")
