"""One task's documents as the stages search them: ids, texts, unit vectors, BM25."""

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


def words(text: str) -> list[str]:
    """Lower-case runs of two letters or more."""
    return [word.lower() for word in WORD.findall(text)]


class Collection:
    """
    Args:
        doc_ids: in corpus order, which is what breaks ties.
        texts: title and text of every document.
        vectors: (documents, dim) float32 unit vectors; (documents, 0) when only BM25 is wanted.
    """

    def __init__(self, doc_ids: Sequence[str], texts: Sequence[str], vectors: np.ndarray) -> None:
        self.doc_ids = list(doc_ids)
        self.texts = list(texts)
        self.vectors = vectors
        self._position = {doc_id: position for position, doc_id in enumerate(self.doc_ids)}

    @cached_property
    def bm25(self) -> Bm25:
        """For figures."""
        return Bm25(self.texts)

    @cached_property
    def lexical(self) -> Bm25:
        """For mining and grading."""
        return Bm25(self.texts, "pieces")

    @cached_property
    def _document_frequency(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for text in self.texts:
            for word in set(words(text)):
                counts[word] = counts.get(word, 0) + 1
        return counts

    def is_telling(self, word: str) -> bool:
        """In a tenth of the documents at most."""
        return self._document_frequency.get(word, 0) <= max(1, len(self.texts) // 10)

    def idf(self, word: str) -> float:
        return float(np.log(1 + len(self.texts) / (1 + self._document_frequency.get(word, 0))))

    @cached_property
    def hubness(self) -> np.ndarray:
        """(documents,) mean cosine of each document to its ``HUB_NEIGHBOURS`` nearest others, less the mean of all.

        A hub is near to everything and so found for everything (CSLS: Conneau et al., ICLR 2018, eq. 4).
        """
        if len(self.texts) < 2:
            return np.zeros(len(self.texts), np.float32)
        neighbours = min(HUB_NEIGHBOURS, len(self.texts) - 1)
        means = []
        for start in range(0, len(self.texts), 1024):  # a block at a time: the whole matrix may not fit
            cosines = self.vectors[start : start + 1024] @ self.vectors.T
            cosines[np.arange(len(cosines)), np.arange(start, start + len(cosines))] = -np.inf
            means.append(np.partition(cosines, -neighbours, axis=1)[:, -neighbours:].mean(axis=1))
        density = np.concatenate(means)
        return np.asarray(density - density.mean(), np.float32)

    @cached_property
    def _by_text(self) -> dict[str, list[int]]:
        groups: dict[str, list[int]] = {}
        for position, text in enumerate(self.texts):
            groups.setdefault(normalised_text(text), []).append(position)
        return groups

    def position(self, doc_id: str) -> int:
        """Raises KeyError for a document that is not here."""
        return self._position[doc_id]

    def positions(self, doc_ids: Sequence[str]) -> np.ndarray:
        """Positions of those of the ids that are here."""
        return np.array([self._position[d] for d in doc_ids if d in self._position], dtype=np.int64)

    def near_duplicates(self, doc_id: str, threshold: float) -> np.ndarray:
        """Positions of the document, its equal texts, and all whose cosine to it is at least the threshold."""
        here = self.position(doc_id)
        equal = np.array(self._by_text[normalised_text(self.texts[here])])
        if not self.vectors.shape[1]:
            return equal
        return np.union1d(np.flatnonzero(self.vectors @ self.vectors[here] >= threshold), equal)


def build_collections(corpus: pa.Table, embeddings: pa.Table | None = None) -> dict[str, Collection]:
    """A collection per task, of all of them at once; see ``each_collection``."""
    return dict(each_collection(corpus, embeddings))


def each_collection(corpus: pa.Table, embeddings: pa.Table | None = None) -> Iterator[tuple[str, Collection]]:
    """(task, its documents), one task after the other, so that the vectors of only one need be laid out for search.

    Args:
        corpus: ``schemas.CORPUS``.
        embeddings: ``schemas.EMBEDDINGS`` of all of it, for dense search.

    Raises:
        UserError: an embedding is not made of finite numbers.
    """
    if embeddings is not None:
        matrix = vectors_of(embeddings)
        row_of = {text_id: row for row, text_id in enumerate(embeddings["text_id"].to_pylist())}
    for task in sorted(pc.unique(corpus["task"]).to_pylist()):
        rows = corpus.filter(pc.equal(corpus["task"], task))
        doc_ids = rows["doc_id"].to_pylist()
        titles, texts = rows["title"].to_pylist(), rows["text"].to_pylist()
        full = [document_text(title, text) for title, text in zip(titles, texts, strict=True)]
        if embeddings is None:
            vectors = np.zeros((len(doc_ids), 0), np.float32)
        else:
            vectors = matrix[[row_of[text_id(text)] for text in full]]
        yield task, Collection(doc_ids, full, vectors)


def vectors_of(embeddings: pa.Table) -> np.ndarray:
    """(rows, dim) float32 of ``schemas.EMBEDDINGS``.

    Raises:
        UserError: a vector has another dimension than the first, or holds what is not a finite number.
    """
    column = embeddings["embedding"].combine_chunks()
    lengths = pc.list_value_length(column).unique().to_pylist()
    if len(lengths) > 1:
        raise UserError(f"embeddings have {' and '.join(map(str, sorted(lengths)))} dimensions; they must all have one")
    matrix: np.ndarray = column.flatten().to_numpy().reshape(len(embeddings), -1)
    if not np.isfinite(matrix).all():
        bad = int(np.flatnonzero(~np.isfinite(matrix).all(axis=1))[0])
        raise UserError(
            f"the embedding of text {embeddings['text_id'][bad]} holds NaN or infinity; remove the artefact that it is "
            "in, and the next run encodes it again"
        )
    return matrix
