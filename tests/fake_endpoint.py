"""The HTTP API over a model and an index that are fakes."""

import asyncio

import numpy as np
from fastapi.testclient import TestClient

from reasonembed.artifacts import Artifact
from reasonembed.config import Encode, Serve
from reasonembed.serving.active_index import IndexVersion
from reasonembed.serving.api import create_app
from reasonembed.serving.api_keys import ApiKeys
from reasonembed.serving.encoders import ServedModel
from reasonembed.serving.service import SearchService

DOCUMENTS = [
    {"doc_id": "d0", "task": "a", "text": "zero"},
    {"doc_id": "d1", "task": "a", "text": "one"},
    {"doc_id": "d2", "task": "b", "text": "two"},
]
RECORD = {
    "stage": "index",
    "fingerprint": "v1",
    "finished": "2026-11-21T10:00:00Z",
    "figures": {"rows": 3, "dimension": 4, "tasks": ["a", "b"]},
    "config": {"index": {"kind": "flat", "bm25": True}},
    "inputs": {},
}
VERSION = IndexVersion("index/v1", Artifact("index/v1", RECORD), ServedModel("org/fake", "m", Encode()), (2, 4))
KEY = "a-key-of-ann-0000001"


class FakeStore:
    """Finds the same documents for every query, and records the dense searches."""

    def __init__(self):
        self.searches = []

    async def search_dense(self, uri, vectors, k, document_filter):
        self.searches.append((k, document_filter.task, document_filter.exclude_ids))
        return [(np.array([1, 2, 0])[:k], np.array([0.9, 0.5, 0.1])[:k]) for _ in vectors]

    async def search_bm25(self, uri, query, k, document_filter):
        return np.array([2])[:k], np.array([7.0])[:k]

    async def documents(self, uri, positions, with_text=True, max_bytes=None):
        columns = ("doc_id", "task", "text") if with_text else ("doc_id", "task")
        return {position: {name: DOCUMENTS[position][name] for name in columns} for position in positions}


async def encode_texts(uri, texts, kind, instruction):
    """Encodes a text as its length; counts words as tokens. The text "slow" takes five seconds."""
    if "slow" in texts:
        await asyncio.sleep(5)
    return np.array([[len(text), 0, 0, 1] for text in texts], np.float32), sum(len(text.split()) for text in texts)


class FakeEndpoint:
    """The API over fakes, with a client on the same machine.

    Args:
        keys: by holder.
        store: finds documents; a ``FakeStore`` by default.
        settings: of the section ``serve``.
    """

    def __init__(self, keys=None, store=None, **settings):
        self.settings = Serve(**settings)
        self.store, self.records = store or FakeStore(), []
        self.service = SearchService(encode_texts, self.store, self.settings)
        self.service.active_index.version = VERSION
        self.app = create_app(self.service, self.settings, ApiKeys(keys or {}), self.records.append)
        self.http = self.client()

    def client(self, host="127.0.0.1", url="http://127.0.0.1:8000", **options):
        """Returns a client at an address, which sends requests to a URL."""
        return TestClient(self.app, base_url=url, client=(host, 5000), **options)

    def post(self, path, body, **headers):
        return self.http.post(path, json=body, headers=headers)
