"""An index as it is searched: by vectors, by words, and for its documents' texts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reasonembed import artifacts, storage
from reasonembed.artifacts import Artifact
from reasonembed.config import Index
from reasonembed.errors import UserError
from reasonembed.retrieval.bm25 import Bm25
from reasonembed.retrieval.faiss_index import (
    BM25_FOLDER,
    DOCUMENTS,
    DOCUMENTS_FILE,
    INDEX_FILE,
    ShardedIndex,
    open_index,
    shard_folder,
)
from reasonembed.retrieval.fusion import top_k

TEXT = pa.large_string()
FIGURES = {"rows", "dimension", "shards", "shard_rows"}
Found = tuple[np.ndarray, np.ndarray]
"""Positions (int64) in the whole index and scores (float32), best first."""


@dataclass(frozen=True)
class DocumentFilter:
    """Which documents may be found."""

    task: str | None = None
    exclude_ids: tuple[str, ...] = ()


EVERYWHERE = DocumentFilter()


class IndexShards:
    """
    Args:
        index: a finished index.
        number: of this part,
        parts: of so many. The shards of the index are dealt out in runs, so that a part is a run of documents too.
        device: where vectors are searched, ``cpu`` or ``cuda``.

    Raises:
        UserError: the index has fewer shards than there are parts, or a file is not what the record says; or the
            device is not there, or has no search of this kind.
    """

    def __init__(self, index: Artifact, number: int = 0, parts: int = 1, device: str = "cpu") -> None:
        shards = int(index.figures["shards"])
        if parts > shards:
            raise UserError(
                f"index {index.uri} has {shards} shards, which cannot be dealt out to {parts} parts; build it with "
                f"index.shards={parts}, or lower serve.search_shards"
            )
        settings = Index.model_validate(index.record["config"]["index"])
        first, end = (round(shards * n / parts) for n in (number, number + 1))
        _check_files(index, range(first, end))
        opened, words, tables = [], [], []
        for shard in range(first, end):
            place = storage.join(index.uri, shard_folder(shard))
            with storage.local_copy(place, lambda name: name != DOCUMENTS_FILE) as folder:
                opened.append(open_index(folder / INDEX_FILE, device))
                if settings.bm25:
                    words.append(Bm25.load(folder / BM25_FOLDER))
            tables.append(index.table(DOCUMENTS, f"{shard_folder(shard)}/{DOCUMENTS_FILE}"))
        self._index = ShardedIndex(opened, settings)
        self._words = words
        documents = pa.concat_tables(tables)
        # One array for each column: fetching ten rows of a table takes a millisecond. Large: texts may be over 2 GiB.
        self._columns = {name: documents[name].cast(TEXT).combine_chunks() for name in documents.column_names}
        self._start = sum(index.figures["shard_rows"][:first])

    def __len__(self) -> int:
        return len(self._columns["doc_id"])

    def dense(self, vectors: np.ndarray, k: int, within: DocumentFilter = EVERYWHERE) -> list[Found]:
        """What is found for each of (queries, dim) unit vectors."""
        scores, positions = self._index.search(vectors, k, self._allowed(within))
        return [(row[row >= 0] + self._start, values[row >= 0]) for row, values in zip(positions, scores, strict=True)]

    def lexical(self, query: str, k: int, within: DocumentFilter = EVERYWHERE) -> Found:
        """Documents that share a word with the query, by BM25.

        Raises:
            UserError: the index was built without.
        """
        if not self._words:
            raise UserError("the index was built with index.bm25=false and cannot be searched by words")
        scores = np.concatenate([part.scores(query) for part in self._words])
        scores[scores <= 0] = -np.inf
        if (allowed := self._allowed(within)) is not None:
            scores[~allowed] = -np.inf
        best = top_k(scores, k)
        return best + self._start, scores[best]

    def documents(self, positions: Sequence[int]) -> dict[int, dict[str, str]]:
        """``doc_id``, ``task`` and ``text`` of those of the positions that lie in this part."""
        return {
            position: {name: column[position - self._start].as_py() for name, column in self._columns.items()}
            for position in positions
            if 0 <= position - self._start < len(self)
        }

    def _allowed(self, within: DocumentFilter) -> np.ndarray | None:
        if within == EVERYWHERE:
            return None
        allowed = pa.array(np.ones(len(self), bool))
        if within.task is not None:
            allowed = pc.equal(self._columns["task"], within.task)
        if within.exclude_ids:
            excluded = pc.is_in(self._columns["doc_id"], value_set=pa.array(within.exclude_ids, TEXT))
            allowed = pc.and_not(allowed, excluded)
        mask: np.ndarray = allowed.to_numpy(zero_copy_only=False)
        return mask


def _check_files(index: Artifact, shards: Sequence[int]) -> None:
    folders = tuple(f"{shard_folder(shard)}/" for shard in shards)
    for entry in index.files:
        if entry.path.startswith(folders):
            whole = storage.exists(storage.join(index.uri, entry.path))
            if not whole or storage.describe_file(index.uri, entry.path) != entry:
                raise UserError(
                    f"index {index.uri} is damaged: {entry.path} is not what its record says; build it again"
                )


def finished_index(uri: str) -> Artifact:
    """
    Raises:
        UserError: there is no finished index, or one of an earlier layout.
    """
    index = artifacts.load(uri)
    if index is None or index.stage != "index":
        raise UserError(f"no finished index at {uri}; run the pipeline first (make quickstart)")
    if missing := FIGURES - index.figures.keys():
        raise UserError(f"index {uri} is of an earlier version (no {', '.join(sorted(missing))}): build it again")
    return index


def merged(found: Sequence[Found], k: int) -> Found:
    """The k best of what several parts found for one query; of equal ones the lower position."""
    positions, scores = (np.concatenate(columns) for columns in zip(*found, strict=True))
    order = np.lexsort((positions, -scores))[:k]
    return positions[order], scores[order]
