"""The documents of one task in memory, as the stages search them: ids, texts, unit vectors and BM25."""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reasonembed.embedder.prompts import document_text
from reasonembed.errors import UserError
from reasonembed.ids import normalised_text, text_id
from reasonembed.retrieval.bm25 import Bm25

WORD = re.compile(r"[^\W\d_]{2,}")
HUB_NEIGHBOURS = 10
BLOCK_ROWS = 1024


def words(text: str) -> list[str]:
    """Returns the lower-case runs of two or more letters in a text."""
    return [word.lower() for word in WORD.findall(text)]


class Collection:
    """The documents of one task.

    Args:
        doc_ids: in the order of the corpus; documents with equal scores are ranked in this order.
        texts: title and text of every document.
        vectors: (documents, dim) float32 unit vectors; (documents, 0) where only BM25 is used.
    """

    def __init__(self, doc_ids: Sequence[str], texts: Sequence[str], vectors: np.ndarray) -> None:
        self.doc_ids = list(doc_ids)
        self.texts = list(texts)
        self.vectors = vectors
        self._position = {doc_id: position for position, doc_id in enumerate(self.doc_ids)}

    @cached_property
    def bm25(self) -> Bm25:
        """BM25 with Lucene's text analysis, for evaluation."""
        return Bm25(self.texts)

    @cached_property
    def bm25_split_names(self) -> Bm25:
        """BM25 in which names are split into their parts, for mining and grading."""
        return Bm25(self.texts, "split-names")

    @cached_property
    def _document_frequency(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for text in self.texts:
            for word in set(words(text)):
                counts[word] = counts.get(word, 0) + 1
        return counts

    def is_distinctive(self, word: str) -> bool:
        """Returns whether at most a tenth of the documents contain a word."""
        return self._document_frequency.get(word, 0) <= max(1, len(self.texts) // 10)

    def idf(self, word: str) -> float:
        """Returns the smoothed inverse document frequency of a word: log(1 + documents / (1 + frequency))."""
        return float(np.log(1 + len(self.texts) / (1 + self._document_frequency.get(word, 0))))

    @cached_property
    def hubness(self) -> np.ndarray:
        """(documents,) float32: mean cosine of each document to its ``HUB_NEIGHBOURS`` nearest neighbours, minus the
        mean of this over all documents.

        A hub is near to every vector and therefore retrieved for every query. The mean cosine is r_T of CSLS (Conneau
        et al., ICLR 2018, eq. 4).
        """
        if len(self.texts) < 2:
            return np.zeros(len(self.texts), np.float32)
        neighbours = min(HUB_NEIGHBOURS, len(self.texts) - 1)
        means = []
        for start in range(0, len(self.texts), BLOCK_ROWS):  # in blocks, because the whole matrix may not fit in memory
            cosines = self.vectors[start : start + BLOCK_ROWS] @ self.vectors.T
            cosines[np.arange(len(cosines)), np.arange(start, start + len(cosines))] = -np.inf
            means.append(np.partition(cosines, -neighbours, axis=1)[:, -neighbours:].mean(axis=1))
        density = np.concatenate(means)
        return np.asarray(density - density.mean(), np.float32)

    @cached_property
    def _positions_by_text(self) -> dict[str, list[int]]:
        groups: dict[str, list[int]] = {}
        for position, text in enumerate(self.texts):
            groups.setdefault(normalised_text(text), []).append(position)
        return groups

    def position(self, doc_id: str) -> int:
        """Returns the position of a document.

        Raises:
            KeyError: the collection does not have it.
        """
        return self._position[doc_id]

    def positions(self, doc_ids: Sequence[str]) -> np.ndarray:
        """Returns the positions (int64) of the given documents; ids that the collection does not have are ignored."""
        return np.array([self._position[d] for d in doc_ids if d in self._position], dtype=np.int64)

    def near_duplicates(self, doc_id: str, threshold: float) -> np.ndarray:
        """Returns the positions of a document, of the documents with the same text, and of its near-duplicates.

        Args:
            doc_id: of the document.
            threshold: cosine from which on a document is a near-duplicate.
        """
        position = self.position(doc_id)
        equal = np.array(self._positions_by_text[normalised_text(self.texts[position])])
        if not self.vectors.shape[1]:
            return equal
        return np.union1d(np.flatnonzero(self.vectors @ self.vectors[position] >= threshold), equal)


def build_collections(corpus: pa.Table, embeddings: pa.Table | None = None) -> dict[str, Collection]:
    """Returns the collection of every task; see ``iterate_collections``."""
    return dict(iterate_collections(corpus, embeddings))


def iterate_collections(corpus: pa.Table, embeddings: pa.Table | None = None) -> Iterator[tuple[str, Collection]]:
    """Yields every task with its collection, one at a time, so that only one needs its own copy of the vectors.

    Args:
        corpus: ``schemas.CORPUS``.
        embeddings: ``schemas.EMBEDDINGS`` of the whole corpus, for dense search.

    Raises:
        UserError: the embeddings differ in dimension, or one contains NaN or infinity.
    """
    if embeddings is not None:
        matrix = embedding_matrix(embeddings)
        row_by_text_id = {text_id: row for row, text_id in enumerate(embeddings["text_id"].to_pylist())}
    for task in sorted(pc.unique(corpus["task"]).to_pylist()):
        rows = corpus.filter(pc.equal(corpus["task"], task))
        doc_ids = rows["doc_id"].to_pylist()
        titles, bodies = rows["title"].to_pylist(), rows["text"].to_pylist()
        texts = [document_text(title, body) for title, body in zip(titles, bodies, strict=True)]
        if embeddings is None:
            vectors = np.zeros((len(doc_ids), 0), np.float32)
        else:
            vectors = matrix[[row_by_text_id[text_id(text)] for text in texts]]
        yield task, Collection(doc_ids, texts, vectors)


def embedding_matrix(embeddings: pa.Table) -> np.ndarray:
    """Returns the vectors of ``schemas.EMBEDDINGS``, (rows, dim) float32.

    Raises:
        UserError: the vectors differ in dimension, or one contains NaN or infinity.
    """
    column = embeddings["embedding"].combine_chunks()
    lengths = pc.list_value_length(column).unique().to_pylist()
    if len(lengths) > 1:
        raise UserError(
            f"the embeddings have {' and '.join(map(str, sorted(lengths)))} dimensions, but all must have the same; "
            "remove their artifact, and the next run encodes the texts again"
        )
    matrix: np.ndarray = column.flatten().to_numpy().reshape(len(embeddings), -1)
    if not np.isfinite(matrix).all():
        row = int(np.flatnonzero(~np.isfinite(matrix).all(axis=1))[0])
        raise UserError(
            f"the embedding of text {embeddings['text_id'][row]} contains NaN or infinity; remove its artifact, and "
            "the next run encodes the text again"
        )
    return matrix
