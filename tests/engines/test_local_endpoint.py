"""The endpoint on real Ray Serve in its smallest form: one process holds the index and runs the model."""

import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
import ray
import requests
from endpoints import TEXTS, command_line
from factories import load_pipeline
from processes import running_endpoint

from reasonembed.embedder.model import Embedder


@pytest.fixture(scope="module")
def index(pipeline_run):
    artifact = load_pipeline(pipeline_run.config, "index.shards=2", "index.kind=hnsw").run("index")
    ray.shutdown()
    return artifact


@pytest.fixture(scope="module")
def local_endpoint(pipeline_run, index):
    """URL and process of an endpoint without encoder replicas."""
    with running_endpoint(pipeline_run.config, f"serve.index={index.uri}", "serve.encoders=0") as (url, process):
        yield url, process


def test_the_gateway_is_the_only_replica(local_endpoint):
    _, process = local_endpoint
    lines = [command_line(child) for child in psutil.Process(process.pid).children(recursive=True)]
    replicas = [line for line in lines if line.startswith("ray::ServeReplica:search:")]
    assert [re.split("[:. ]", line)[4] for line in replicas] == ["gateway"]


def test_embeddings_of_concurrent_requests_equal_those_of_the_library(local_endpoint, index):
    url, _ = local_endpoint
    expected = Embedder.load(index.record["config"]["model"]).encode(TEXTS, 32)

    def request(text):
        return requests.post(f"{url}/v1/embeddings", json={"input": text}, timeout=60).json()

    with ThreadPoolExecutor(8) as pool:
        for response, vector in zip(pool.map(request, TEXTS), expected, strict=True):
            assert np.abs(np.array(response["data"][0]["embedding"]) - vector).max() < 1e-5


def test_a_search_returns_documents_of_the_task_without_the_excluded(local_endpoint, index):
    url, _ = local_endpoint
    body = {"query": "The river and the rain make a flood", "top_k": 3, "task": "nature"}
    response = requests.post(f"{url}/v1/search", json=body, timeout=60).json()
    hits = response["results"][0]["hits"]
    assert response["index"] == index.fingerprint
    assert [hit["task"] for hit in hits] == ["nature"] * 3
    body["exclude_ids"] = [hits[0]["doc_id"]]
    assert requests.post(f"{url}/v1/search", json=body, timeout=60).json()["results"][0]["hits"][:2] == hits[1:]
    assert index.figures["recall@10"] > 0.9
