"""A proxy in front of an S3 server that fails requests on purpose: by their number, method and key, not by chance.

It passes the ``Host`` header on unchanged, so that signatures stay valid.
"""

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "expect", "proxy-connection", "te", "upgrade"}


@dataclass
class Fault:
    """A way to fail, and the requests that fail.

    Without ``status`` and ``cut`` the request is only delayed.
    """

    status: int = 0
    """HTTP status of the answer; the server does not get the request."""
    code: str = "SlowDown"
    """S3's code in the body of that answer."""
    cut: Literal["", "request", "answer"] = ""
    """Close the connection instead: before the server gets the request, or after it has answered."""
    delay: float = 0.0
    """Seconds before the request is handled."""
    times: int | None = None
    """Number of requests that fail; None: no limit."""
    seconds: float | None = None
    """Requests fail for so long, beginning with the first; None: no limit."""
    method: str = ""
    """Only requests with this method; "": all."""
    path: str = ""
    """Only requests whose path and query contain this text."""
    credential: str = ""
    """Only requests that are signed with this access key."""
    _count: int = 0
    _started: float | None = None

    def applies(self, method: str, path: str, authorization: str) -> bool:
        """Returns whether a request fails in this way, and counts it."""
        if (self.method and method != self.method) or self.path not in path:
            return False
        if self.credential and f"Credential={self.credential}/" not in authorization:
            return False
        if self._started is None:
            self._started = time.monotonic()
        if self.seconds is not None and time.monotonic() - self._started > self.seconds:
            return False
        self._count += 1
        return self.times is None or self._count <= self.times


@dataclass(frozen=True)
class Request:
    """A request that the proxy has handled."""

    method: str
    path: str
    """With the query."""
    status: int
    """Of the answer; 0 where the connection was closed."""


class FaultProxy:
    """The control of a running proxy."""

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream)
        self.url = ""
        self.requests: list[Request] = []
        """All requests so far, in the order of their answers."""
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def fail(self, *faults: Fault) -> None:
        """Adds faults; the first that applies to a request decides."""
        with self._lock:
            self._faults += faults

    def heal(self) -> None:
        """Removes all faults and forgets all requests."""
        with self._lock:
            self._faults.clear()
            self.requests.clear()

    def match(self, method: str, path: str, authorization: str) -> Fault | None:
        """Returns the fault of a request."""
        with self._lock:
            return next((fault for fault in self._faults if fault.applies(method, path, authorization)), None)

    def record(self, request: Request) -> None:
        """Adds a request to ``requests``."""
        with self._lock:
            self.requests.append(request)


@contextmanager
def fault_proxy(upstream: str) -> Iterator[FaultProxy]:
    """Runs a proxy in front of a server.

    Args:
        upstream: URL of the server.
    """
    proxy = FaultProxy(upstream)

    class Handler(_Handler):
        control = proxy

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    control: FaultProxy
    protocol_version = "HTTP/1.1"

    def _handle(self) -> None:
        body = self._body()
        fault = self.control.match(self.command, self.path, self.headers.get("Authorization", ""))
        if fault is not None:
            time.sleep(fault.delay)
        if fault is not None and fault.status:
            self._refuse(fault)
            return
        if fault is not None and fault.cut == "request":
            self._hang_up()
            return
        status, headers, content = self._forward(body)
        if fault is not None and fault.cut == "answer":
            self._hang_up()
            return
        self.control.record(Request(self.command, self.path, status))
        self._answer(status, headers, content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers
        return b"".join(chunks)

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = self.control.upstream
        connection = http.client.HTTPConnection(upstream.hostname or "", upstream.port, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
        try:
            connection.request(self.command, self.path, body or None, headers)
            response = connection.getresponse()
            passed_on = [(name, value) for name, value in response.getheaders() if name.lower() not in HOP_BY_HOP]
            return response.status, passed_on, response.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() != "content-length" or self.command == "HEAD":
                self.send_header(name, value)
        if self.command != "HEAD" and status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _refuse(self, fault: Fault) -> None:
        self.control.record(Request(self.command, self.path, fault.status))
        content = f"<?xml version='1.0'?><Error><Code>{fault.code}</Code><Message>on purpose</Message></Error>".encode()
        self._answer(fault.status, [("Content-Type", "application/xml")], content)

    def _hang_up(self) -> None:
        self.control.record(Request(self.command, self.path, 0))
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        """Logs nothing."""
