"""Texts to documents: the trained embedder and the FAISS index that was built with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reasonembed import artifacts, storage
from reasonembed.config import Encode, Index
from reasonembed.embedder.model import Embedder
from reasonembed.embedder.prompts import query_text
from reasonembed.errors import UserError
from reasonembed.retrieval.faiss_index import DOCUMENTS, DOCUMENTS_FILE, open_shards


@dataclass(frozen=True)
class Hit:
    doc_id: str
    task: str
    score: float
    text: str


class Searcher:
    """Opens an index artefact.

    Raises:
        UserError: there is no finished index at the URI.
    """

    def __init__(self, index_uri: str) -> None:
        index = artifacts.load(index_uri)
        if index is None:
            raise UserError(f"no finished index at {index_uri}; run the pipeline first (make quickstart)")
        self.name = str(index.record["config"]["model"]).rstrip("/")
        self.version = index.fingerprint
        self._encode = Encode.model_validate(index.record["config"]["encode"])
        self._embedder = Embedder.load(self.name, self._encode)
        shards = [name for name in index.parquet("shard-") if name.endswith(DOCUMENTS_FILE)]
        documents = storage.read_table(shards, DOCUMENTS)
        self._tasks = np.array(documents["task"].to_pylist())
        self._doc_ids: list[str] = documents["doc_id"].to_pylist()
        self._texts: list[str] = documents["text"].to_pylist()
        self._index = open_shards(index_uri, Index.model_validate(index.record["config"]["index"]))

    @property
    def tasks(self) -> list[str]:
        return sorted(set(self._tasks.tolist()))

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """(texts, dim) unit vectors of texts as they are."""
        return self._embedder.encode(texts, self._encode.max_tokens, self._encode.batch_tokens)

    def query_text(self, query: str, instruction: str) -> str:
        return query_text(query, instruction, self._encode.instruct, self._embedder.prompt("query"))

    def search(
        self, vectors: np.ndarray, k: int, task: str | None = None, exclude_ids: Sequence[str] = ()
    ) -> list[list[Hit]]:
        """The k best documents for each vector, of one task or of all, without the excluded ids."""
        allowed = None
        if task is not None or exclude_ids:
            keep = np.ones(len(self._doc_ids), bool) if task is None else self._tasks == task
            excluded = set(exclude_ids)
            keep &= np.array([doc_id not in excluded for doc_id in self._doc_ids]) if excluded else True
            allowed = np.flatnonzero(keep)
        scores, positions = self._index.search(vectors, k, allowed)
        return [
            [self._hit(int(p), float(s)) for p, s in zip(row, values, strict=True) if p >= 0]
            for row, values in zip(positions, scores, strict=True)
        ]

    def _hit(self, position: int, score: float) -> Hit:
        return Hit(self._doc_ids[position], str(self._tasks[position]), score, self._texts[position])

    def describe(self) -> dict[str, Any]:
        return {
            "id": self.name.rsplit("/", 1)[-1],
            "index": self.version,
            "documents": len(self._doc_ids),
            "tasks": self.tasks,
        }
