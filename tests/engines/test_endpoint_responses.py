"""Responses of an endpoint on real Ray Serve to many clients at once: vectors, searches, limits."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import hypothesis
import numpy as np
import openai
import pytest
import requests
import schemathesis
from endpoints import AUTHORISATION, KEY, TEXTS
from hypothesis import HealthCheck
from schemathesis.checks import not_a_server_error
from sentence_transformers import SentenceTransformer

from reasonembed.serving.index_shards import DocumentFilter, IndexShards

pytestmark = pytest.mark.extended


def test_openais_client_gets_the_librarys_vectors_however_requests_are_mixed(endpoint, served_indexes):
    model_folder = served_indexes["two shards"].record["config"]["model"]
    expected = SentenceTransformer(model_folder, device="cpu").encode(TEXTS)
    client = openai.OpenAI(base_url=f"{endpoint.url}/v1", api_key=KEY)
    model = client.models.list().data[0].id

    def embed(numbers):
        options = {"encoding_format": "float"} if numbers[0] % 2 else {}  # by default the client requests base64
        response = client.embeddings.create(model=model, input=[TEXTS[number] for number in numbers], **options)
        return {number: entry.embedding for number, entry in zip(numbers, response.data, strict=True)}

    groups = [list(range(start, start + 1 + start % 4)) for start in range(116)]
    with ThreadPoolExecutor(16) as pool:
        for vectors in pool.map(embed, groups):
            for number, vector in vectors.items():
                assert np.abs(np.array(vector) - expected[number]).max() < 1e-5
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{endpoint.url}/v1", api_key="wrong", max_retries=0).embeddings.create(
            model=model, input="x"
        )


def test_two_shards_in_two_processes_return_the_results_of_one_index(endpoint, served_indexes):
    whole = IndexShards(served_indexes["one shard"])
    model = SentenceTransformer(served_indexes["one shard"].record["config"]["model"], device="cpu")
    queries = TEXTS[:20]
    vectors = model.encode(queries)
    for document_filter in (
        DocumentFilter(),
        DocumentFilter("nature"),
        DocumentFilter(None, ("physics/cold 0", "nature/sound 1")),
    ):
        filter_fields = {"task": document_filter.task, "exclude_ids": list(document_filter.exclude_ids)}
        rankings = {
            "dense": whole.search_dense(vectors, 7, document_filter),
            "bm25": [whole.search_bm25(query, 7, document_filter) for query in queries],
        }
        for mode, expected in rankings.items():
            body = {"query": queries, "top_k": 7, "mode": mode, **filter_fields}
            results = endpoint.post("/v1/search", body).json()["results"]
            for result, (positions, scores) in zip(results, expected, strict=True):
                documents = whole.documents(positions.tolist())
                assert [hit["doc_id"] for hit in result["hits"]] == [documents[p]["doc_id"] for p in positions.tolist()]
                assert [hit["score"] for hit in result["hits"]] == pytest.approx(scores.tolist(), abs=2e-6)
    hybrid = endpoint.post("/v1/search", {"query": queries[3], "mode": "hybrid", "fusion": "rrf"}).json()
    assert len(hybrid["results"][0]["hits"]) == 10


def test_limits_hold_through_ray_serve_too(endpoint):
    assert endpoint.post("/v1/search", {"query": "x"}, headers={}).status_code == 401
    assert endpoint.post("/v1/search", {"query": "x" * 200_000}).status_code == 413
    url = f"{endpoint.url}/v1/search"
    assert requests.post(url, data=b"{", headers=AUTHORISATION, timeout=60).status_code == 422
    streamed = (b"x" * 10_000 for _ in range(20))
    assert requests.post(url, data=streamed, headers=AUTHORISATION, timeout=60).status_code == 413
    response = endpoint.post("/v1/search", {"query": "x"}, headers=AUTHORISATION | {"x-request-id": "mine-7"})
    assert response.headers["x-request-id"] == "mine-7"


def test_overload_is_refused_at_once_and_ends_soon(endpoint):
    body = {"input": ["the river and the rain and the bell " * 4] * 30}
    with ThreadPoolExecutor(40) as pool:
        responses = list(pool.map(lambda _: endpoint.post("/v1/embeddings", body), range(120)))
    statuses = Counter(response.status_code for response in responses)
    assert set(statuses) == {200, 503}, statuses
    assert all(response.headers["retry-after"] == "1" for response in responses if response.status_code == 503)
    assert endpoint.post("/v1/embeddings", {"input": "x"}).elapsed.total_seconds() < 5


def test_no_input_causes_an_error_of_the_server(endpoint):
    schema = schemathesis.openapi.from_url(f"{endpoint.url}/openapi.json")
    calls = 0
    for operation in schema.get_all_operations():

        @hypothesis.settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @hypothesis.given(case=operation.ok().as_strategy())
        def call_and_check(case):
            nonlocal calls
            calls += 1
            case.call_and_validate(checks=[not_a_server_error], headers=AUTHORISATION, timeout=60)

        call_and_check()
    assert calls > 80
