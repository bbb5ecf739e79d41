"""The artefacts that the stages between corpus and training share, as they travel to the workers, and how these load
them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from reasonembed import schemas
from reasonembed.artifacts import Artifact
from reasonembed.config import Encode
from reasonembed.remixer.generate import usable_queries
from reasonembed.retrieval.collection import Collection, build_collections

Encoder = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class EmbeddedCorpus:
    """A corpus and its vectors by one model."""

    name: str
    """Of the model, for people."""
    corpus: Artifact
    embeddings: Artifact
    """Of the whole corpus, made with ``model``."""
    model: str
    encode: Encode

    def collections(self) -> dict[str, Collection]:
        return build_collections(self.corpus.table(schemas.CORPUS), self.embeddings.table(schemas.EMBEDDINGS))

    def encoder(self) -> Encoder:
        """Of queries."""
        from reasonembed.embedder.model import Embedder

        embedder = Embedder.load(self.model, self.encode)
        return partial(
            embedder.encode,
            max_tokens=self.encode.max_tokens,
            batch_tokens=self.encode.batch_tokens,
            prompt=embedder.prompt("query"),
        )


def queries_by_id(queries: Artifact) -> dict[str, dict[str, Any]]:
    return {row["query_id"]: row for row in usable_queries(queries.table(schemas.QUERIES)).to_pylist()}


def texts_of(corpus: Artifact) -> dict[str, Collection]:
    """The corpus's texts by task, without vectors."""
    return build_collections(corpus.table(schemas.CORPUS))
