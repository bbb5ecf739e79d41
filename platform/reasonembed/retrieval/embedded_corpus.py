"""A corpus with its vectors, in the form in which stages send it to their workers, which load it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from reasonembed import schemas
from reasonembed.artifacts import Artifact
from reasonembed.config import Encode
from reasonembed.retrieval.collection import Collection, build_collections

QueryEncoder = Callable[[Sequence[str]], np.ndarray]
"""Query texts to (queries, dim) unit vectors."""


@dataclass(frozen=True)
class EmbeddedCorpus:
    """References to a corpus and to its vectors by one model; small enough to be sent to every worker."""

    name: str
    """Label of the model."""
    corpus: Artifact
    """``schemas.CORPUS``."""
    embeddings: Artifact
    """``schemas.EMBEDDINGS`` of the whole corpus by ``model``."""
    model: str
    """Folder or hub id of the model."""
    encode: Encode
    """The settings for encoding queries."""

    def load_collections(self) -> dict[str, Collection]:
        """Loads the documents of every task, with vectors."""
        return build_collections(self.corpus.table(schemas.CORPUS), self.embeddings.table(schemas.EMBEDDINGS))

    def load_query_encoder(self) -> QueryEncoder:
        """Loads the model and returns its function that encodes queries."""
        from reasonembed.embedder.model import Embedder

        embedder = Embedder.load(self.model, self.encode)
        return partial(
            embedder.encode,
            max_tokens=self.encode.max_tokens,
            batch_tokens=self.encode.batch_tokens,
            prompt=embedder.prompt("query"),
        )


def load_text_collections(corpus: Artifact) -> dict[str, Collection]:
    """Loads the documents of every task, without vectors.

    Args:
        corpus: ``schemas.CORPUS``.
    """
    return build_collections(corpus.table(schemas.CORPUS))
