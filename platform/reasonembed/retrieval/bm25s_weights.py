"""BM25 weights computed by bm25s: the only module that relies on how bm25s lays out its index.

bm25s searches for whole queries only. Searching a part of the documents and weighting the tokens of a query need the
matrix of weights itself, which ``bm25s.BM25.build_index_from_tokens`` returns. Its method is public, the layout of its
result is not documented; ``tests/contract/test_bm25s_internals.py`` checks it for bm25s 0.3.16.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import bm25s
import numpy as np


@dataclass(frozen=True)
class TokenWeights:
    """The BM25 weight of every token in every document that contains it, as a sparse matrix by column (CSC)."""

    vocabulary: dict[str, int]
    """The column of every token."""
    weights: np.ndarray
    """(entries,) float32."""
    documents: np.ndarray
    """(entries,) int32: the document of every weight."""
    starts: np.ndarray
    """(tokens + 1,) int64: the entries of column t are those from ``starts[t]`` up to ``starts[t + 1]``."""


def token_weights(tokens: Sequence[Sequence[str]], k1: float, b: float) -> TokenWeights:
    """Returns the weights of all tokens by BM25 in Lucene's form (Kamphuis et al., ECIR 2020, "Lucene (accurate)").

    Args:
        tokens: of every document.
        k1: saturation of the term frequency.
        b: strength of the length normalisation.
    """
    if not any(tokens):
        return TokenWeights({}, np.zeros(0, np.float32), np.zeros(0, np.int32), np.zeros(1, np.int64))
    model = bm25s.BM25(k1=k1, b=b, method="lucene")
    matrix, vocabulary = model.build_index_from_tokens(tokens, show_progress=False)
    return TokenWeights(vocabulary, matrix["data"], matrix["indices"], matrix["indptr"])
