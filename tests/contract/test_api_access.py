"""Who may use the HTTP API: keys under a prefix, and without keys only programs on the endpoint's own machine."""

import asyncio

import pytest
from fake_endpoint import KEY, FakeEndpoint

BODY = b'{"query": "x"}'


@pytest.fixture
def endpoint():
    return FakeEndpoint()


@pytest.fixture
def endpoint_with_key():
    return FakeEndpoint(keys={"ann": KEY})


def status(endpoint, path, root_path="", method="POST", headers=()):
    """Returns the status of a request whose path is sent as it is; clients would normalise it."""
    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "root_path": root_path}
    scope |= {"query_string": b"", "client": ("127.0.0.1", 5000), "server": ("127.0.0.1", 8000), "scheme": "http"}
    scope["headers"] = [(b"host", b"localhost"), (b"content-type", b"application/json"), *headers]
    messages = []

    async def receive():
        return {"type": "http.request", "body": BODY}

    async def send(message):
        messages.append(message)

    asyncio.run(endpoint.app(scope, receive, send))
    return messages[0]["status"]


@pytest.mark.parametrize("prefix", ["", "/api", "/a/b"])
def test_a_key_is_needed_under_any_prefix(endpoint_with_key, prefix):
    authorisation = [(b"authorization", f"Bearer {KEY}".encode())]
    for path in ("/v1/search", "/v1/embeddings", "/v1/models", "/v1/nothing", "/nothing", "/", ""):
        assert status(endpoint_with_key, prefix + path, prefix) == 401
    assert status(endpoint_with_key, f"{prefix}/v1/search", prefix, headers=authorisation) == 200
    assert status(endpoint_with_key, f"{prefix}/v1/models", prefix, "GET", authorisation) == 200
    for path in ("/healthz", "/readyz", "/docs", "/redoc", "/openapi.json"):
        assert status(endpoint_with_key, prefix + path, prefix, "GET") == 200


@pytest.mark.parametrize(
    "path",
    [
        "//v1/search",
        "/v1//search",
        "/./v1/search",
        "/v1/./search",
        "/healthz/../v1/search",
        "/docs/../v1/search",
        "/v1/search/",
        "/v1/search/../../healthz",
        "/V1/search",
        "/%76%31/search",
        "/healthz%2f..%2fv1/search",
        "/healthz\x00/v1/search",
        "/v1/search;/healthz",
        "//healthz",
        "/healthz/",
        "v1/search",
    ],
)
@pytest.mark.parametrize("prefix", ["", "/api"])
def test_no_form_of_a_path_passes_without_a_key(endpoint_with_key, path, prefix):
    for sent in (prefix + path, f"{prefix}/{path}", path):
        assert status(endpoint_with_key, sent, prefix) == 401


def test_websockets_are_closed(endpoint):
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(endpoint.app({"type": "websocket", "path": "/v1/search", "headers": []}, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:9", "127.0.0.1", "127.0.0.1:8000", "127.0.0.2", "[::1]", "[::1]:8000"]
)
def test_without_keys_the_names_of_the_machine_are_accepted(endpoint, host):
    assert endpoint.post("/v1/search", {"query": "x"}, host=host).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "attacker.example",
        "attacker.example:8000",
        "localhost.attacker.example",
        "127.0.0.1.attacker.example:8000",
        "10.0.0.7",
        "0.0.0.0",
        "[2001:db8::1]",
        "",
    ],
)
def test_without_keys_another_host_is_refused(endpoint, host):
    """A web page whose name was made to point to this machine sends its own name (DNS rebinding)."""
    response = endpoint.post("/v1/search", {"query": "x"}, host=host)
    assert (response.status_code, response.json()["error"]["code"]) == (403, "host_not_allowed")
    assert "serve.allowed_hosts" in response.json()["error"]["message"]
    assert endpoint.records[-1].code == "host_not_allowed"


def test_a_request_without_a_host_or_with_two_is_refused(endpoint):
    assert status(endpoint, "/v1/search") == 200
    assert status(endpoint, "/v1/search", headers=[(b"host", b"attacker.example")]) == 403
    scope = {"type": "http", "method": "GET", "path": "/v1/models", "headers": [], "client": ("127.0.0.1", 1)}
    messages = []

    async def send(message):
        messages.append(message)

    asyncio.run(endpoint.app(scope, None, send))
    assert messages[0]["status"] == 403


def test_more_hosts_can_be_allowed_and_with_keys_any_host_is_answered(endpoint_with_key):
    allowed = FakeEndpoint(host="search.local", allowed_hosts=["Search.Example"])
    statuses = [
        allowed.post("/v1/search", {"query": "x"}, host=host).status_code
        for host in ("search.local:8000", "search.example", "attacker.example")
    ]
    assert statuses == [200, 200, 403]
    headers = {"host": "attacker.example", "authorization": f"Bearer {KEY}", "x-forwarded-for": "10.0.0.7"}
    assert endpoint_with_key.post("/v1/search", {"query": "x"}, **headers).status_code == 200


def test_probes_of_the_machine_need_no_host(endpoint):
    assert endpoint.http.get("/healthz", headers={"host": "10.0.0.7:8000"}).status_code == 200


@pytest.mark.parametrize(
    "header",
    ["X-Forwarded-For", "x-real-ip", "Forwarded", "X-Forwarded-Host", "X-Forwarded-Proto"],
)
def test_without_keys_forwarded_requests_are_refused(endpoint, header):
    """A proxy on the same machine has a loopback address, whoever has sent the request to it."""
    response = endpoint.post("/v1/search", {"query": "x"}, **{header: "127.0.0.1"})
    assert (response.status_code, response.json()["error"]["code"]) == (403, "no_keys")
    assert "configure keys with serve.keys_file" in response.json()["error"]["message"]
