"""The HTTP proxies of Ray Serve: what ``header_timeout`` and ``haproxy_wrapper`` rely on, and what they reach."""

import asyncio
import os
import socket
import stat
import tempfile
import time
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest
from ray.serve._private import haproxy, http_util
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve._private.proxy_request_response import ASGIProxyRequest
from ray.serve.config import HTTPOptions
from uvicorn import config as uvicorn_config

from reasonembed.distributed.serve import application, haproxy_wrapper
from reasonembed.distributed.serve.haproxy_wrapper import haproxy_script
from reasonembed.distributed.serve.header_timeout import CALLBACK, MAX_HEADER_BYTES, LimitedHttpProtocol


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_the_prefix_of_an_application_is_in_the_path_and_in_the_root_path():
    """As ``access_control.route_path`` expects: Ray Serve changes only the root path before a replica is called."""
    scope = {"type": "http", "path": "/api/v1/search", "root_path": ""}
    request = ASGIProxyRequest(scope, None, None)
    request.set_root_path(request.root_path + "/api")
    assert scope == {"type": "http", "path": "/api/v1/search", "root_path": "/api"}
    assert request.route_path == "/v1/search"


async def app(scope, receive, send):
    """Answers as soon as the body has arrived."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def proxy_server(port):
    """Runs the HTTP server of a proxy as Ray Serve does, with the callback that the environment variable names."""
    options = http_util.configure_http_middlewares(HTTPOptions(host="127.0.0.1", port=port))
    task, server = await http_util.start_asgi_http_server(app, options, event_loop=asyncio.get_running_loop())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        await task


@pytest.fixture
def limited(monkeypatch):
    """Lets Ray Serve call ``limit_headers``, with a limit of a third of a second."""
    monkeypatch.setattr(http_util, "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", CALLBACK)
    monkeypatch.setitem(uvicorn_config.HTTP_PROTOCOLS, "auto", uvicorn_config.HTTP_PROTOCOLS["auto"])
    monkeypatch.setattr(LimitedHttpProtocol, "header_seconds", 0.3)


async def exchange(port, *pieces, pause=0.0):
    """Sends pieces of a request with pauses, and returns what is received until the connection is closed.

    Returns:
        The response, and the seconds until the connection was closed by the server; None if it stays open.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    started = time.perf_counter()
    with suppress(ConnectionError):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)
    response = b""
    try:
        async with asyncio.timeout(2):
            with suppress(ConnectionError):
                while data := await reader.read(1 << 16):
                    response += data
        return response, time.perf_counter() - started
    except TimeoutError:
        return response, None
    finally:
        writer.close()


REQUEST = b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n"


def run_exchange(*pieces, pause=0.0):
    async def main():
        port = free_port()
        async with proxy_server(port):
            return await exchange(port, *pieces, pause=pause)

    return asyncio.run(main())


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([b"POST /v1/search HTTP/1.1\r\nHost: local"], id="unfinished headers"),
        pytest.param([b"P", b"O", b"S", b"T"], id="one byte at a time"),
        pytest.param([REQUEST + b"body", b"\r\n"], id="after a request"),
        pytest.param([REQUEST + b"body", b"POST /v1"], id="second request"),
    ],
)
def test_headers_that_do_not_arrive_in_time_end_the_connection(limited, pieces):
    response, seconds = run_exchange(*pieces, pause=0.05)
    assert seconds is not None, "the connection stays open"
    assert seconds < 1.5
    assert response.endswith(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    assert (b"200 OK" in response) == pieces[0].endswith(b"body")


def test_a_connection_without_a_request_is_closed(limited):
    response, seconds = run_exchange()
    assert response == b""
    assert seconds is not None


def test_headers_of_any_size_are_not_stored(limited):
    pieces = [b"GET / HTTP/1.1\r\n", *([b"X-Filler: " + b"x" * 10_000 + b"\r\n"] * 20)]
    response, seconds = run_exchange(*pieces)
    assert seconds is not None
    assert len(b"".join(pieces)) > MAX_HEADER_BYTES
    assert response == b"" or response.startswith(b"HTTP/1.1 431")  # The reset of the connection may overtake it.


def test_a_slow_body_and_a_quiet_connection_between_requests_are_left_to_others(limited):
    """The gateway limits the time of a body, and Ray Serve's ``keep_alive_timeout_s`` that of a quiet connection."""
    response, seconds = run_exchange(REQUEST, b"b", b"o", b"d", b"y", pause=0.2)
    assert b"200 OK" in response
    assert seconds is None


def listening(process, port):
    """Returns the addresses on which a process listens at a port."""
    connections = psutil.Process(process).net_connections("tcp")
    return {one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN and one.laddr.port == port}


@asynccontextmanager
async def running_haproxy(binary, monkeypatch, folder):
    """Runs HAProxy as Ray Serve does, with one backend."""
    monkeypatch.setattr(haproxy, "RAY_SERVE_HAPROXY_BINARY_PATH", str(binary))
    config = HAProxyConfig(
        socket_path=f"{folder}/admin.sock",
        server_state_base=folder,
        server_state_file=f"{folder}/state",
        metrics_socket_path=f"{folder}/metrics.sock",
        stats_port=free_port(),
        metrics_port=free_port(),
        http_options=HTTPOptions(host="127.0.0.1", port=free_port()),
    )
    backend = BackendConfig(
        name="search", path_prefix="/", app_name="search", servers=[ServerConfig("one", "127.0.0.1", free_port())]
    )
    api = HAProxyApi(config, {"search": backend}, f"{folder}/haproxy.cfg")
    await api.start()
    try:
        yield api
    finally:
        await api.stop()


def test_haproxys_statistics_metrics_and_control_are_for_this_machine_and_user(monkeypatch):
    monkeypatch.setattr(haproxy_wrapper, "HEADER_SECONDS", 1)

    async def main(binary, folder):
        async with running_haproxy(binary, monkeypatch, folder) as api:
            process = api._proc.pid
            assert api._is_our_haproxy(process)
            addresses = [listening(process, port) for port in (api.cfg.stats_port, api.cfg.metrics_port)]
            mode = stat.S_IMODE(Path(api.cfg.socket_path).stat().st_mode)
            port = api.cfg.frontend_port
            slow = await exchange(port, b"POST /v1/search HTTP/1.1\r\nHost: local")
            statistics = await exchange(api.cfg.stats_port, b"GET /stats HTTP/1.0\r\n\r\n")
            assert await api.is_running()
            await api._graceful_reload()
            reloaded = [listening(api._proc.pid, port) for port in (api.cfg.stats_port, api.cfg.metrics_port)]
            return addresses, reloaded, mode, slow, statistics

    with tempfile.TemporaryDirectory() as folder, haproxy_script() as script:  # Sockets need short paths.
        addresses, reloaded, mode, slow, statistics = asyncio.run(main(script, folder))
    assert addresses == reloaded == [{"127.0.0.1"}] * 2
    assert mode == 0o600
    assert slow[0].startswith(b"HTTP/1.1 408") or slow[0].startswith(b"HTTP/1.0 408")
    assert slow[1] < 2
    assert b"200 OK" in statistics[0]
    assert not script.exists()


def test_the_job_names_the_callback_and_a_script_that_exists_while_it_runs(monkeypatch):
    callback, binary = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", "RAY_SERVE_HAPROXY_BINARY_PATH"
    for name in (callback, binary, "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S"):
        monkeypatch.setenv(name, "")  # So that the variable is removed after the test, too.
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "1")
    with application._limited_proxies():
        assert os.environ[callback] == CALLBACK
        script = Path(os.environ[binary])
        assert os.access(script, os.X_OK)
        assert stat.S_IMODE(script.parent.stat().st_mode) == 0o700
    assert not script.exists()
