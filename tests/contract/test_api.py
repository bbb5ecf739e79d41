"""The HTTP API that programs rely on: paths, fields, codes, limits. Model and index are fakes."""

import asyncio
import base64
import json
from dataclasses import replace

import numpy as np
import pytest
from fake_endpoint import DOCUMENTS, KEY, RECORD, VERSION, FakeEndpoint, encode_texts

from reasonembed.artifacts import Artifact
from reasonembed.serving.limits import MAX_CHARS


@pytest.fixture
def endpoint():
    return FakeEndpoint()


def test_search_one_and_many(endpoint):
    body = {"query": "what", "top_k": 2, "task": "a", "exclude_ids": ["x"]}
    one = endpoint.post("/v1/search", body).json()
    assert (one["model"], one["index"]) == ("org/fake", "v1")
    assert one["results"] == [
        {"query": "what", "hits": [{**DOCUMENTS[1], "score": 0.9}, {**DOCUMENTS[2], "score": 0.5}]}
    ]
    assert endpoint.store.searches == [(2, "a", ("x",))]
    many = endpoint.post("/v1/search", {"query": ["a", "b"], "return_text": False}).json()
    assert [r["query"] for r in many["results"]] == ["a", "b"]
    assert "text" not in many["results"][0]["hits"][0]


def test_search_by_bm25_and_by_both(endpoint):
    doc_ids = {
        mode: [
            hit["doc_id"]
            for hit in endpoint.post("/v1/search", {"query": "q", "mode": mode}).json()["results"][0]["hits"]
        ]
        for mode in ("bm25", "dense", "hybrid")
    }
    # Both rankings weigh the same: d1 is first in one of them; d2 is first in the other and second in that one.
    assert doc_ids == {"bm25": ["d2"], "dense": ["d1", "d2", "d0"], "hybrid": ["d2", "d1", "d0"]}


def test_an_index_without_bm25_accepts_only_dense_searches(endpoint):
    record = {**RECORD, "config": {"index": {"kind": "flat", "bm25": False}}}
    endpoint.service.active_index.version = replace(VERSION, index=Artifact("v", record))
    assert endpoint.post("/v1/search", {"query": "q"}).status_code == 200
    response = endpoint.post("/v1/search", {"query": "q", "mode": "hybrid"})
    assert (response.status_code, response.json()["error"]["code"]) == (422, "invalid_request")


def test_an_unexpected_error_has_the_format_of_the_others(endpoint):
    endpoint.store.documents = None
    http = endpoint.client(raise_server_exceptions=False)
    response = http.post("/v1/search", json={"query": "q"})
    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")


def test_embeddings_have_openais_format(endpoint):
    body = endpoint.post("/v1/embeddings", {"input": ["xx", "x y"], "model": "org/fake"}).json()
    assert [d["embedding"] for d in body["data"]] == [[2, 0, 0, 1], [3, 0, 0, 1]]
    assert [d["index"] for d in body["data"]] == [0, 1]
    assert body["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    base64_body = endpoint.post("/v1/embeddings", {"input": "xx", "encoding_format": "base64"}).json()
    assert np.frombuffer(base64.b64decode(base64_body["data"][0]["embedding"]), "<f4").tolist() == [2, 0, 0, 1]
    short = endpoint.post("/v1/embeddings", {"input": "xx", "dimensions": 2}).json()
    assert short["data"][0]["embedding"] == [1, 0]


def test_health_readiness_and_model(endpoint):
    assert endpoint.http.get("/healthz").json() == {"status": "ok"}
    assert endpoint.http.get("/readyz").json()["index"] == "v1"
    model = endpoint.http.get("/v1/models").json()["data"][0]
    assert (model["id"], model["documents"], model["dimensions"], model["tasks"]) == ("org/fake", 3, [2, 4], ["a", "b"])
    assert set(endpoint.http.get("/openapi.json").json()["paths"]) >= {"/v1/search", "/v1/embeddings", "/v1/models"}
    endpoint.service.active_index.version = None
    assert endpoint.http.get("/healthz").status_code == 200
    assert endpoint.http.get("/readyz").status_code == 503
    response = endpoint.post("/v1/search", {"query": "x"})
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("search", {}, 422, "invalid_request"),
        ("search", {"query": "x", "topk": 3}, 422, "invalid_request"),
        ("search", {"query": "x", "top_k": 0}, 422, "invalid_request"),
        ("search", {"query": "x", "mode": "sparse"}, 422, "invalid_request"),
        ("search", {"query": " "}, 422, "invalid_request"),
        ("search", {"query": []}, 422, "invalid_request"),
        ("search", {"query": ["x"] * 9}, 422, "invalid_request"),
        ("search", {"query": "x" * (MAX_CHARS + 1)}, 413, "too_long"),
        ("search", {"query": "x", "task": "c"}, 404, "unknown_task"),
        ("embeddings", {"input": "x", "model": "gpt"}, 404, "model_not_found"),
        ("embeddings", {"input": "x", "dimensions": 3}, 422, "invalid_request"),
        ("embeddings", {"input": [[1, 2]]}, 422, "invalid_request"),
        ("nothing", {}, 404, "not_found"),
    ],
)
def test_errors_are_json_with_a_code(path, body, status, code):
    endpoint = FakeEndpoint(texts=8)
    response = endpoint.post(f"/v1/{path}", body)
    assert response.status_code == status
    error = response.json()["error"]
    assert error["code"] == code
    assert error["message"]
    assert error["type"] == "invalid_request_error"
    assert endpoint.records[-1].code == code


def test_invalid_json_and_half_surrogate_pairs_are_refused(endpoint):
    for body in (b"{", b"", b"\xff\xfe", b"[1]", json.dumps({"query": "\ud800"}).encode()):
        response = endpoint.http.post("/v1/search", content=body, headers={"content-type": "application/json"})
        assert response.status_code == 422, body
    assert endpoint.http.get("/v1/search").status_code == 405


def test_a_body_above_the_limit_is_refused_with_or_without_content_length():
    endpoint = FakeEndpoint(body_bytes=1024)
    assert endpoint.post("/v1/search", {"query": "x" * 2000}).status_code == 413
    streamed = endpoint.http.post("/v1/search", content=(b"x" * 100 for _ in range(20)))
    assert (streamed.status_code, streamed.json()["error"]["code"]) == (413, "too_large")


def test_late_responses_and_slow_requests_are_refused():
    endpoint = FakeEndpoint(timeout_seconds=0.3)
    late = endpoint.post("/v1/search", {"query": "slow"})
    assert (late.status_code, late.json()["error"]["code"], late.headers["retry-after"]) == (503, "timeout", "1")

    async def never_ends():
        sent = []
        scope = {"type": "http", "method": "POST", "path": "/v1/search", "client": ("::1", 1)}
        scope["headers"] = [(b"host", b"localhost:8000")]

        async def receive():
            if sent:
                await asyncio.sleep(5)
            sent.append(1)
            return {"type": "http.request", "body": b"{", "more_body": True}

        response = []

        async def send(message):
            response.append(message)

        await endpoint.app(scope, receive, send)
        return response[0]["status"], json.loads(response[1]["body"])["error"]["code"]

    assert asyncio.run(never_ends()) == (408, "slow_request")


def test_too_many_waiting_texts_are_refused_with_the_time_to_retry():
    endpoint = FakeEndpoint(waiting=2)
    assert endpoint.post("/v1/embeddings", {"input": ["a", "b", "c"]}).status_code == 200
    endpoint.service.waiting_texts = 1
    response = endpoint.post("/v1/embeddings", {"input": ["a", "b"]})
    assert (response.status_code, response.json()["error"]["code"], response.headers["retry-after"]) == (
        503,
        "overloaded",
        "1",
    )
    assert endpoint.service.waiting_texts == 1


def test_a_request_needs_a_valid_key_below_its_rate_limit():
    endpoint = FakeEndpoint(keys={"ann": KEY, "bob": "another-key-of-bob"}, requests_per_minute=2)
    body = {"query": "x"}
    for wrong in ({}, {"authorization": "Bearer nobody"}, {"authorization": KEY}, {"authorization": "Basic " + KEY}):
        response = endpoint.post("/v1/search", body, **wrong)
        assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")
        assert response.headers["www-authenticate"] == "Bearer"
    assert endpoint.http.get("/readyz").status_code == 200
    responses = [endpoint.post("/v1/search", body, authorization=f"Bearer {KEY}") for _ in range(3)]
    assert [response.status_code for response in responses] == [200, 200, 429]
    assert 1 <= int(responses[2].headers["retry-after"]) <= 30
    assert endpoint.post("/v1/search", body, authorization="Bearer another-key-of-bob").status_code == 200
    assert [record.key for record in endpoint.records[-4:]] == ["ann", "ann", "ann", "bob"]


def test_without_keys_only_this_machine_is_served(endpoint):
    for host in ("10.0.0.7", "2001:db8::1", "somewhere"):
        response = endpoint.client(host).post("/v1/search", json={"query": "x"})
        assert (response.status_code, response.json()["error"]["code"]) == (403, "no_keys")
    assert endpoint.client("::1").post("/v1/search", json={"query": "x"}).status_code == 200


@pytest.mark.parametrize("log_queries", [False, True])
def test_the_record_of_a_request_has_the_query_only_if_configured(log_queries):
    endpoint = FakeEndpoint(log_queries=log_queries)
    response = endpoint.post("/v1/search", {"query": "a secret matter"}, **{"x-request-id": "mine-1"})
    record = endpoint.records[-1]
    assert (record.request_id, record.status, record.path) == ("mine-1", 200, "/v1/search")
    assert record.details["index"] == response.json()["index"]
    assert record.details["tokens"] == 3
    assert ("a secret matter" in str(record)) is log_queries
    generated = endpoint.post("/v1/search", {"query": "x"}, **{"x-request-id": "two\nlines"}).headers["x-request-id"]
    assert generated == endpoint.records[-1].request_id != "two\nlines"


def test_a_request_ends_with_the_version_it_began_with(endpoint):
    async def replace_version_then_encode(uri, texts, kind, instruction):
        endpoint.service.active_index.version = replace(VERSION, index=Artifact("v2", {**RECORD, "fingerprint": "v2"}))
        return await encode_texts(uri, texts, kind, instruction)

    endpoint.service._encode_texts = replace_version_then_encode
    assert endpoint.post("/v1/search", {"query": "x"}).json()["index"] == "v1"
    assert endpoint.post("/v1/search", {"query": "x"}).json()["index"] == "v2"
