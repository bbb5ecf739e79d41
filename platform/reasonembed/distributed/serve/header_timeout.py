"""Time and size limits for the headers of a request in Ray Serve's HTTP proxies; written for ray==2.60.0.

uvicorn, which Ray Serve runs, waits for headers forever and stores any amount of them. Ray Serve calls
``limit_headers`` at the start of every proxy if the environment variable ``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH``
names it. HAProxy, which can replace these proxies, has limits of its own (``haproxy_wrapper``).

``tests/contract/test_ray_serve_proxies.py`` fails if an update of Ray or uvicorn changes what this relies on.
"""

import asyncio
from typing import Any

from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

CALLBACK_VARIABLE = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
HEADER_SECONDS = 15
MAX_HEADER_BYTES = 65_536
TIMEOUT, TOO_LARGE = "408 Request Timeout", "431 Request Header Fields Too Large"


class LimitedHttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol of one connection, with limits for headers. The limit of time also applies to a new connection
    on which nothing arrives."""

    header_seconds: float = HEADER_SECONDS
    _timer: asyncio.TimerHandle | None = None
    _header_bytes = 0

    def connection_made(self, transport: Any) -> None:
        """Called when a client has connected."""
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called when the connection is closed."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Called with every piece of data; headers and body of a request can arrive in one piece or in many."""
        if self._timer is None and (self.cycle is None or self.cycle.response_complete):
            self._start_timer()  # The next request of this connection.
        super().data_received(data)
        if self._timer is not None:
            self._header_bytes += len(data)
            if self._header_bytes > MAX_HEADER_BYTES:
                self._refuse(TOO_LARGE)

    def on_headers_complete(self) -> None:
        """Called when all headers of a request have arrived."""
        self._stop_timer()
        super().on_headers_complete()

    def _start_timer(self) -> None:
        self._header_bytes = 0
        self._timer = self.loop.call_later(self.header_seconds, self._refuse, TIMEOUT)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: str) -> None:
        self._stop_timer()
        if self.transport.is_closing():
            return
        if self._header_bytes:  # Otherwise the client has not begun a request and expects no response.
            self.transport.write(f"HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
        self.transport.close()


def limit_headers() -> list[Any]:
    """Lets the HTTP server of this process use ``LimitedHttpProtocol``; called by Ray Serve.

    Returns:
        No middleware, which is what Ray Serve expects from the function.
    """
    HTTP_PROTOCOLS["auto"] = f"{LimitedHttpProtocol.__module__}:{LimitedHttpProtocol.__qualname__}"
    return []


CALLBACK = f"{limit_headers.__module__}:{limit_headers.__qualname__}"
