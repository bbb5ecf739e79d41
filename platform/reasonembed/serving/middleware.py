"""What every request passes before the API sees it: key, allowance, size, time; and what is written down about it."""

import asyncio
import json
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from reasonembed.config import Serve
from reasonembed.serving.keys import Keys, RateLimiter
from reasonembed.serving.refusals import RequestRefused

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

GUARDED = "/v1/"
REQUEST_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)
ERROR_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


@dataclass
class RequestRecord:
    """What is known of a request when it ends; becomes a line of the log."""

    request_id: str
    method: str
    path: str
    key: str | None = None
    status: int = 0
    seconds: float = 0.0
    code: str | None = None
    """Of an error."""
    details: dict[str, Any] = field(default_factory=dict)
    """Texts, tokens, model, index."""


class RequestMiddleware:
    """An ASGI application around another.

    Args:
        app: behind the door.
        settings: limits.
        keys: who may come in; everybody on this machine, and nobody else, when there are none.
        on_request: told of every request when it is over.
    """

    def __init__(self, app: App, settings: Serve, keys: Keys, on_request: Callable[[RequestRecord], None]) -> None:
        self._app, self._settings, self._keys, self._on_request = app, settings, keys, on_request
        self._allowance = RateLimiter(settings.requests_per_minute)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        given = headers.get("x-request-id", "")
        told = REQUEST_ID.fullmatch(given) is not None
        seen = RequestRecord(given if told else uuid.uuid4().hex, scope["method"], scope["path"])
        scope.setdefault("state", {})["seen"] = seen
        started, begun = time.perf_counter(), False

        async def answer(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun, seen.status = True, message["status"]
                if not told:  # Ray Serve gives every request an id, and the answer too
                    message["headers"] = [*message.get("headers", ()), (b"x-request-id", seen.request_id.encode())]
            await send(message)

        try:
            async with asyncio.timeout(self._settings.timeout_seconds):
                if scope["path"].startswith(GUARDED):
                    self._admit(headers, scope.get("client"), seen)
                await self._app(scope, await self._read(headers, receive), answer)
        except RequestRefused as refused:
            await _refuse(refused, seen, answer)
        except TimeoutError:
            if not begun:
                late = f"not answered within {self._settings.timeout_seconds:g} s"
                await _refuse(RequestRefused(503, "timeout", late, retry_after=1), seen, answer)
        finally:
            seen.seconds = time.perf_counter() - started
            self._on_request(seen)

    def _admit(self, headers: dict[str, str], client: tuple[str, int] | None, seen: RequestRecord) -> None:
        if not self._keys:
            if client is None or not is_loopback(client[0]):
                raise RequestRefused(403, "no_keys", "this endpoint has no keys and answers only on its own machine")
            return
        scheme, _, key = headers.get("authorization", "").partition(" ")
        seen.key = self._keys.holder(key.strip()) if scheme.lower() == "bearer" else None
        if seen.key is None:
            raise RequestRefused(401, "invalid_api_key", "send a valid key as `Authorization: Bearer KEY`")
        if wait := self._allowance.take(seen.key):
            most = self._settings.requests_per_minute
            raise RequestRefused(
                429, "rate_limit_exceeded", f"a key has {most} requests a minute here", retry_after=wait
            )

    async def _read(self, headers: dict[str, str], receive: Receive) -> Receive:
        """The whole body, read here, where its size and the time it takes are watched."""
        most = self._settings.body_bytes
        too_large = RequestRefused(413, "too_large", f"a request may have {most} bytes")
        if (told := headers.get("content-length", "")).isdigit() and int(told) > most:
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
                    if len(body) > most:
                        raise too_large
        except TimeoutError:
            raise RequestRefused(408, "slow_request", "the request did not arrive in time") from None
        given = False

        async def replay() -> Message:
            nonlocal given
            if given:
                return await receive()  # whatever comes then: the end of the connection
            given = True
            return {"type": "http.request", "body": bytes(body), "more_body": False}

        return replay


def is_loopback(host: str) -> bool:
    """Whether an address or name of a host can be reached from its own machine only."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _refuse(refused: RequestRefused, seen: RequestRecord, send: Send) -> None:
    seen.code = refused.code
    headers = [(b"content-type", b"application/json")]
    if refused.retry_after:
        headers.append((b"retry-after", str(refused.retry_after).encode()))
    if refused.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    body = json.dumps(error_body(refused)).encode()
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def error_body(refused: RequestRefused, param: str | None = None) -> dict[str, Any]:
    """In the shape of OpenAI's errors."""
    kind = ERROR_TYPES.get(refused.status, "invalid_request_error" if refused.status < 500 else "server_error")
    return {"error": {"message": refused.message, "type": kind, "code": refused.code, "param": param}}
