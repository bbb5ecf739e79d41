"""Small requests with large costs: limits of the HTTP API, and work that must not stop the event loop."""

import asyncio
import json
import threading

import numpy as np
import pytest
from fake_endpoint import KEY, FakeEndpoint, FakeStore


class LargeStore(FakeStore):
    """Finds as many documents as requested, each with the same text.

    Args:
        text: of every document.
    """

    def __init__(self, text):
        super().__init__()
        self.text, self.threads, self.waiting, self.service = text, [], [], None

    async def search_dense(self, uri, vectors, k, document_filter):
        return [(np.arange(k), np.linspace(1, 0, k)) for _ in vectors]

    async def search_bm25(self, uri, query, k, document_filter):
        self.waiting.append(self.service.waiting_texts)
        return np.arange(k), np.linspace(1, 0, k)

    async def documents(self, uri, positions, with_text=True, max_bytes=None):
        self.threads.append(threading.get_ident())
        text = {"text": self.text} if with_text else {}
        return {position: {"doc_id": str(position), "task": "a"} | text for position in positions}


@pytest.fixture
def large_endpoint():
    """Returns a function: an endpoint whose documents have a text, with settings of the section ``serve``."""

    def make(text, **settings):
        endpoint = FakeEndpoint(store=LargeStore(text), **settings)
        endpoint.store.service = endpoint.service
        return endpoint

    return make


def code(response):
    return response.status_code, response.json()["error"]["code"]


@pytest.mark.parametrize("mode", ["dense", "bm25", "hybrid"])
def test_questions_times_top_k_are_limited_by_default(large_endpoint, mode):
    endpoint = large_endpoint("text")
    response = endpoint.post("/v1/search", {"query": ["x"] * 32, "top_k": 1000, "mode": mode})
    assert code(response) == (422, "invalid_request")
    assert "32 questions x top_k 1000" in response.json()["error"]["message"]
    assert not endpoint.store.threads
    assert endpoint.post("/v1/search", {"query": "x", "top_k": 1000, "mode": mode}).status_code == 200


def test_the_size_of_a_response_is_limited_by_default(large_endpoint):
    endpoint = large_endpoint("x" * 1_000_000)
    response = endpoint.post("/v1/search", {"query": "x", "top_k": 40})
    assert code(response) == (413, "response_too_large")
    assert "`return_text: false`" in response.json()["error"]["message"]
    without_text = endpoint.post("/v1/search", {"query": "x", "top_k": 40, "return_text": False})
    assert without_text.status_code == 200
    assert without_text.json()["results"][0]["hits"][1] == {"doc_id": "1", "task": "a", "score": 0.974359}
    assert endpoint.post("/v1/search", {"query": "x", "top_k": 20}).status_code == 200


def test_one_document_for_many_questions_counts_as_often_as_it_is_returned(large_endpoint):
    endpoint = large_endpoint("x" * 1000, response_bytes=50_000)
    assert endpoint.post("/v1/search", {"query": ["x"] * 4, "top_k": 10}).status_code == 200
    assert code(endpoint.post("/v1/search", {"query": ["x"] * 5, "top_k": 10})) == (413, "response_too_large")


def test_vectors_that_do_not_fit_into_a_response_are_not_computed(large_endpoint):
    endpoint = large_endpoint("", response_bytes=1024)
    assert endpoint.post("/v1/embeddings", {"input": ["x"] * 10}).status_code == 200
    assert code(endpoint.post("/v1/embeddings", {"input": ["slow"] * 11})) == (413, "response_too_large")


@pytest.mark.parametrize("mode", ["bm25", "hybrid"])
def test_the_length_of_questions_by_bm25_is_limited_by_default(large_endpoint, mode):
    endpoint = large_endpoint("text")
    for query in ("word " * 20_000, ["word " * 1000] * 20):
        assert code(endpoint.post("/v1/search", {"query": query, "mode": mode})) == (413, "too_long")
        assert endpoint.post("/v1/search", {"query": query}).status_code == 200
    assert endpoint.post("/v1/search", {"query": "word " * 10_000, "mode": mode}).status_code == 200


@pytest.mark.parametrize("mode", ["bm25", "hybrid"])
def test_questions_by_bm25_are_counted_as_waiting_texts(large_endpoint, mode):
    endpoint = large_endpoint("text", waiting=4)
    assert endpoint.post("/v1/search", {"query": ["a", "b", "c"], "mode": mode}).status_code == 200
    assert endpoint.store.waiting == [3, 3, 3]
    assert endpoint.service.waiting_texts == 0
    endpoint.service.waiting_texts = 4
    response = endpoint.post("/v1/search", {"query": "a", "mode": mode})
    assert code(response) == (503, "overloaded")
    assert response.headers["retry-after"] == "1"


@pytest.fixture
def encoded(monkeypatch):
    """Records (thread, length) of every value that is encoded as JSON."""
    calls = []

    def dumps(value, **options):
        text = original(value, **options)
        calls.append((threading.get_ident(), len(text)))
        return text

    original = json.dumps
    monkeypatch.setattr(json, "dumps", dumps)
    return calls


def test_a_large_response_is_encoded_outside_the_event_loop_in_small_pieces(large_endpoint, encoded):
    endpoint = large_endpoint("x" * 10_000)
    assert len(endpoint.post("/v1/search", {"query": ["x"] * 4, "top_k": 100}).content) > 4_000_000
    [loop_thread] = endpoint.store.threads
    pieces = [(thread, length) for thread, length in encoded if length > 1000]
    assert len(pieces) == 400
    assert all(thread != loop_thread and length < 20_000 for thread, length in pieces)


def test_the_event_loop_answers_while_a_large_response_is_encoded(large_endpoint):
    """Counts how often another task runs during a search whose response takes about 0.2 s to encode."""
    endpoint = large_endpoint("x y " * 2000, response_bytes=200 << 20)
    body = json.dumps({"query": ["x"] * 10, "top_k": 1000}).encode()
    scope = {"type": "http", "method": "POST", "path": "/v1/search", "client": ("127.0.0.1", 1), "query_string": b""}
    scope["headers"] = [(b"host", b"localhost"), (b"content-type", b"application/json")]

    async def receive():
        return {"type": "http.request", "body": body}

    async def main():
        ticks, sent = 0, []

        async def send(message):
            sent.append(message)

        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0.001)
                ticks += 1

        ticking = asyncio.create_task(tick())
        await endpoint.app(scope, receive, send)
        ticking.cancel()
        return ticks, sent

    ticks, sent = asyncio.run(main())
    assert sent[0]["status"] == 200
    assert len(sent[1]["body"]) > 80_000_000
    assert ticks >= 5


def test_unknown_paths_have_one_route_in_the_records():
    endpoint = FakeEndpoint(keys={"ann": KEY})
    paths = ["/v1/search/1", "/v1/a", "/b", "/"]
    for path in paths:
        endpoint.http.get(path)
        endpoint.http.get(path, headers={"authorization": f"Bearer {KEY}"})
    known = ["/v1/models", "/healthz", "/docs"]
    for path in known:
        endpoint.http.get(path)
    assert [record.route for record in endpoint.records[-3:]] == known
    assert {record.route for record in endpoint.records[:-3]} == {"unknown"}
    assert {record.path for record in endpoint.records} == {*paths, *known}
