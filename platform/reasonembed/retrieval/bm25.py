"""BM25 over one task's documents, with bm25s: Lucene's scoring (k1 0.9, b 0.4), English stop words, Snowball stems."""

from collections.abc import Sequence

import bm25s
import numpy as np
import Stemmer

K1, B = 0.9, 0.4


class Bm25:
    def __init__(self, texts: Sequence[str]) -> None:
        self._size = len(texts)
        self._stemmer = Stemmer.Stemmer("english")
        self._model = bm25s.BM25(k1=K1, b=B, method="lucene")
        tokens = self._tokenize(texts)
        self._empty = not any(tokens)
        if not self._empty:
            self._model.index(tokens, show_progress=False)

    def _tokenize(self, texts: Sequence[str]) -> list[list[str]]:
        tokens: list[list[str]] = bm25s.tokenize(
            list(texts), stopwords="en", stemmer=self._stemmer, return_ids=False, show_progress=False
        )
        return tokens

    def scores(self, query: str) -> np.ndarray:
        """(documents,) float32; zero where no word is shared."""
        known = (
            [] if self._empty else [token for token in self._tokenize([query])[0] if token in self._model.vocab_dict]
        )
        if not known:
            return np.zeros(self._size, np.float32)
        return np.asarray(self._model.get_scores(known), np.float32)
