import pytest
from fastapi.testclient import TestClient

from reasonembed.serving.api import MAX_CHARS, MAX_QUERIES, create_app


class Fake:
    def __init__(self):
        self.asked = []

    def describe(self):
        return {"id": "fake", "index": "v1", "documents": 2, "tasks": ["a", "b"]}

    async def encode(self, texts):
        return [[float(len(text)), 0.0] for text in texts]

    async def search(self, query, instruction, top_k, task, exclude_ids):
        self.asked.append((query, instruction, top_k, task, list(exclude_ids)))
        return [{"doc_id": "d1", "task": "a", "score": 0.5, "text": "one"}][:top_k]


@pytest.fixture
def backend():
    return Fake()


@pytest.fixture
def client(backend):
    return TestClient(create_app(backend))


def test_search_one_and_many(client, backend):
    one = client.post("/v1/search", json={"query": "what", "top_k": 3, "task": "a", "exclude_ids": ["x"]}).json()
    assert one["model"] == "fake"
    assert one["index"] == "v1"
    assert one["results"] == [{"query": "what", "hits": [{"doc_id": "d1", "task": "a", "score": 0.5, "text": "one"}]}]
    assert backend.asked == [("what", "", 3, "a", ["x"])]
    many = client.post("/v1/search", json={"query": ["a", "b"], "return_text": False}).json()
    assert [r["query"] for r in many["results"]] == ["a", "b"]
    assert "text" not in many["results"][0]["hits"][0]


def test_embeddings_in_openais_shape(client):
    body = client.post("/v1/embeddings", json={"input": ["xx", "x"], "model": "any"}).json()
    assert [d["embedding"] for d in body["data"]] == [[2.0, 0.0], [1.0, 0.0]]
    assert [d["index"] for d in body["data"]] == [0, 1]


def test_health(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json()["index"] == "v1"
    assert client.get("/v1/models").json()["data"][0]["id"] == "fake"
    assert "/v1/search" in client.get("/openapi.json").json()["paths"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "invalid_request"),
        ({"query": "x", "topk": 3}, 422, "invalid_request"),
        ({"query": "x", "top_k": 0}, 422, "invalid_request"),
        ({"query": " "}, 422, "invalid_request"),
        ({"query": []}, 422, "invalid_request"),
        ({"query": ["x"] * (MAX_QUERIES + 1)}, 422, "invalid_request"),
        ({"query": "x" * (MAX_CHARS + 1)}, 413, "too_long"),
        ({"query": "x", "task": "c"}, 404, "unknown_task"),
    ],
)
def test_errors_are_json_with_a_code(client, body, status, code):
    answer = client.post("/v1/search", json=body)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert answer.json()["error"]["message"]
