"""BM25 over the documents of one task (k1 0.9, b 0.4, Lucene's form).

Two weightings of a query's tokens:

* ``count``: by their number in the query, as in BM25;
* ``bm25``: by their BM25 weight in the query, as if it were a document. BRIGHT's own baseline does this (its queries
  are as long as documents), which doubles the score on some of its tasks: compare only systems of the same weighting.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from reasonembed.retrieval.bm25s_weights import token_weights
from reasonembed.retrieval.text_analysis import Analysis, analyser

K1, B = 0.9, 0.4
WEIGHTS_FILE, NUMBERS_FILE, STARTS_FILE, WORDS_FILE = "weights.npy", "documents.npy", "starts.npy", "words.json"
QueryWeighting = Literal["count", "bm25"]


class Bm25:
    """BM25 scores of a collection of documents.

    Args:
        texts: of the documents.
        analysis: how texts are split into tokens.
    """

    def __init__(self, texts: Sequence[str], analysis: Analysis = "lucene") -> None:
        self._analyse = analyser(analysis)
        tokens = self._analyse(texts)
        self._size = len(tokens)
        self._mean_length = sum(map(len, tokens)) / max(1, self._size)
        matrix = token_weights(tokens, K1, B)
        self._vocabulary = matrix.vocabulary
        self._weights, self._documents, self._starts = matrix.weights, matrix.documents, matrix.starts

    def scores(self, query: str, weighting: QueryWeighting = "count") -> np.ndarray:
        """Returns the scores of all documents for a query.

        Args:
            query: text.
            weighting: of the query's tokens.

        Returns:
            (documents,) float32; zero for a document that shares no token with the query.
        """
        [tokens] = self._analyse([query])
        counts = Counter(tokens)
        scores = np.zeros(self._size, np.float32)
        for token in tokens if weighting == "count" else counts:
            column = self._vocabulary.get(token)
            if column is not None:
                entries = slice(self._starts[column], self._starts[column + 1])
                weight = 1.0 if weighting == "count" else self._query_weight(column, counts[token], len(tokens))
                scores[self._documents[entries]] += weight * self._weights[entries]
        return scores

    def save(self, folder: Path, start: int, end: int) -> None:
        """Writes one part of the documents, which ``load`` reads; a token has the same weight as in the whole.

        Args:
            folder: to create.
            start: position of the first document of the part.
            end: position after its last one.
        """
        folder.mkdir(parents=True, exist_ok=True)
        in_part = (self._documents >= start) & (self._documents < end)
        np.save(folder / WEIGHTS_FILE, self._weights[in_part])
        np.save(folder / NUMBERS_FILE, (self._documents[in_part] - start).astype(np.int32))
        np.save(folder / STARTS_FILE, np.concatenate([[0], np.cumsum(in_part)])[self._starts])
        vocabulary = {token: int(column) for token, column in self._vocabulary.items()}
        words = json.dumps({"documents": end - start, "words": vocabulary}, ensure_ascii=False)
        (folder / WORDS_FILE).write_text(words)

    @classmethod
    def load(cls, folder: Path) -> "Bm25":
        """Opens a part that ``save`` wrote, memory-mapped. It supports the weighting ``count`` only."""
        part = cls([])
        words = json.loads((folder / WORDS_FILE).read_text())
        part._size, part._vocabulary = words["documents"], words["words"]
        part._weights, part._documents, part._starts = (
            np.load(folder / name, mmap_mode="r") for name in (WEIGHTS_FILE, NUMBERS_FILE, STARTS_FILE)
        )
        return part

    def _query_weight(self, column: int, count: int, length: int) -> float:
        """Returns the BM25 weight of a token in a query, Lucene's form.

        Args:
            column: of the token.
            count: how often the query has it.
            length: number of tokens in the query.
        """
        frequency = int(self._starts[column + 1] - self._starts[column])
        idf = np.log1p((self._size - frequency + 0.5) / (frequency + 0.5))
        return float(idf * count / (count + K1 * (1 - B + B * length / self._mean_length)))
