"""Middleware around the API: checks access, size and time of every request, and records its outcome."""

import asyncio
import json
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from reasonembed.config import Serve
from reasonembed.serving.access_control import AccessControl, is_public, route_path
from reasonembed.serving.api_keys import ApiKeys
from reasonembed.serving.refusals import RequestRefused

AsgiMessage = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[AsgiMessage]]
Send = Callable[[AsgiMessage], Awaitable[None]]
AsgiApp = Callable[[AsgiMessage, Receive, Send], Awaitable[None]]

UNKNOWN_ROUTE = "unknown"
POLICY_VIOLATION = 1008  # close code of a WebSocket
REQUEST_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)
ERROR_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


@dataclass
class RequestRecord:
    """A request and its outcome, complete when the request ends; becomes a line of the log."""

    request_id: str
    method: str
    path: str
    """As the client has sent it, with the prefix of the application."""
    route: str = UNKNOWN_ROUTE
    """Path of the route, for metrics; the same for all paths that do not exist."""
    key: str | None = None
    """Name of the key's holder."""
    status: int = 0
    seconds: float = 0.0
    code: str | None = None
    """Code of the error, if there was one."""
    details: dict[str, Any] = field(default_factory=dict)
    """Number of texts and tokens, model, index."""


class RequestMiddleware:
    """An ASGI application that wraps another one.

    Args:
        app: receives the requests that are admitted.
        settings: the section ``serve``, with the limits.
        keys: that give access; without any, only requests from this machine are admitted.
        on_request: called with the record of every request when it ends.
        routes: paths that exist in the application.
    """

    def __init__(
        self,
        app: AsgiApp,
        settings: Serve,
        keys: ApiKeys,
        on_request: Callable[[RequestRecord], None],
        routes: Collection[str],
    ) -> None:
        self._app, self._settings, self._on_request, self._routes = app, settings, on_request, frozenset(routes)
        self._access = AccessControl(settings, keys)

    async def __call__(self, scope: AsgiMessage, receive: Receive, send: Send) -> None:
        """Handles one ASGI connection."""
        if scope["type"] == "websocket":  # The API has none.
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = route_path(scope)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        client_id = headers.get("x-request-id", "")
        client_id_valid = REQUEST_ID.fullmatch(client_id) is not None
        request_id = client_id if client_id_valid else uuid.uuid4().hex
        route = path if path in self._routes else UNKNOWN_ROUTE
        record = RequestRecord(request_id, scope["method"], scope["path"], route)
        scope.setdefault("state", {})["record"] = record
        started, response_begun = time.perf_counter(), False

        async def send_response(message: AsgiMessage) -> None:
            nonlocal response_begun
            if message["type"] == "http.response.start":
                response_begun, record.status = True, message["status"]
                if not client_id_valid:  # Ray Serve gives every request an id and returns it itself.
                    message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            async with asyncio.timeout(self._settings.timeout_seconds):
                if not is_public(path):
                    record.key = self._access.identify(scope["headers"], scope.get("client"))
                    self._access.limit_rate(record.key)
                await self._app(scope, await self._read_body(headers, receive), send_response)
        except RequestRefused as refusal:
            await _send_refusal(refusal, record, send_response)
        except TimeoutError:
            if not response_begun:
                message = f"not answered within {self._settings.timeout_seconds:g} s"
                await _send_refusal(RequestRefused(503, "timeout", message, retry_after=1), record, send_response)
        finally:
            record.seconds = time.perf_counter() - started
            self._on_request(record)

    async def _read_body(self, headers: dict[str, str], receive: Receive) -> Receive:
        """Reads the whole body, limits its size and the time it takes, and returns a function that replays it."""
        limit = self._settings.body_bytes
        too_large = RequestRefused(413, "too_large", f"a request may have {limit} bytes")
        if (declared := headers.get("content-length", "")).isdigit() and int(declared) > limit:
            raise too_large
        body, more = bytearray(), True
        try:
            async with asyncio.timeout(self._settings.timeout_seconds / 2):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        break
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(body) > limit:
                        raise too_large
        except TimeoutError:
            raise RequestRefused(408, "slow_request", "the request did not arrive in time") from None
        replayed = False

        async def replay() -> AsgiMessage:
            nonlocal replayed
            if replayed:
                return await receive()  # The next message is the end of the connection.
            replayed = True
            return {"type": "http.request", "body": bytes(body), "more_body": False}

        return replay


def error_body(refusal: RequestRefused, param: str | None = None) -> dict[str, Any]:
    """Returns the body of an error response, in the format of OpenAI.

    Args:
        refusal: the error.
        param: field of the request that is wrong.
    """
    kind = ERROR_TYPES.get(refusal.status, "invalid_request_error" if refusal.status < 500 else "server_error")
    return {"error": {"message": refusal.message, "type": kind, "code": refusal.code, "param": param}}


async def _send_refusal(refusal: RequestRefused, record: RequestRecord, send: Send) -> None:
    record.code = refusal.code
    headers = [(b"content-type", b"application/json")]
    if refusal.retry_after:
        headers.append((b"retry-after", str(refusal.retry_after).encode()))
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    body = json.dumps(error_body(refusal)).encode()
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
