"""Search in the shards of an index: by vectors, by words, and for the documents' texts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reasonembed import artifacts, storage
from reasonembed.artifacts import Artifact
from reasonembed.config import Index
from reasonembed.errors import UserError
from reasonembed.retrieval.bm25 import NUMBERS_FILE, STARTS_FILE, WEIGHTS_FILE, WORDS_FILE, Bm25
from reasonembed.retrieval.fusion import top_k
from reasonembed.retrieval.index_files import (
    BM25_FOLDER,
    DOCUMENTS_FILE,
    INDEX_FILE,
    INDEXED_DOCUMENTS,
    shard_folder,
)
from reasonembed.retrieval.index_kinds import open_index
from reasonembed.retrieval.sharded_index import ShardedIndex
from reasonembed.serving.index_record import check_index_record

TEXT = pa.large_string()
VECTOR_FILES = (INDEX_FILE, DOCUMENTS_FILE)
BM25_FILES = tuple(f"{BM25_FOLDER}/{name}" for name in (WEIGHTS_FILE, NUMBERS_FILE, STARTS_FILE, WORDS_FILE))
RankedPositions = tuple[np.ndarray, np.ndarray]
"""Search results of one query: positions (int64) in the whole index and scores (float32), best first."""


@dataclass(frozen=True)
class DocumentFilter:
    """Restricts a search to the documents of one task, without certain documents."""

    task: str | None = None
    """None: documents of all tasks."""
    exclude_ids: tuple[str, ...] = ()


ALL_DOCUMENTS = DocumentFilter()


class IndexShards:
    """Consecutive shards of an index, opened for search; by default all of them.

    Args:
        index: artifact of the index.
        process: number of the process that opens the shards, from 0.
        processes: number of processes among which the shards are divided in order.
        device: ``cpu`` or ``cuda``, where vectors are searched.

    Raises:
        UserError: the index has fewer shards than there are processes; a file differs from the record; or the device
            does not exist or cannot search this kind of index.
    """

    def __init__(self, index: Artifact, process: int = 0, processes: int = 1, device: str = "cpu") -> None:
        shards = int(index.figures["shards"])
        if processes > shards:
            raise UserError(
                f"index {index.uri} has {shards} shards, too few for {processes} processes; build it with "
                f"index.shards={processes}, or lower serve.search_shards"
            )
        settings = Index.model_validate(index.record["config"]["index"])
        first, end = (round(shards * n / processes) for n in (process, process + 1))
        _check_files(index, range(first, end), VECTOR_FILES + (BM25_FILES if settings.bm25 else ()))
        vector_indexes, bm25_weights, tables = [], [], []
        for shard in range(first, end):
            uri = storage.join(index.uri, shard_folder(shard))
            with storage.local_copy(uri, lambda name: name != DOCUMENTS_FILE) as folder:
                vector_indexes.append(open_index(folder / INDEX_FILE, settings, device))
                if settings.bm25:
                    bm25_weights.append(Bm25.load(folder / BM25_FOLDER))
            tables.append(index.table(INDEXED_DOCUMENTS, f"{shard_folder(shard)}/{DOCUMENTS_FILE}"))
        self._vectors = ShardedIndex(vector_indexes)
        self._bm25 = bm25_weights
        documents = pa.concat_tables(tables)
        # One array per column, because ten rows of a chunked table take a millisecond. Texts may exceed 2 GiB together.
        self._columns = {name: documents[name].cast(TEXT).combine_chunks() for name in documents.column_names}
        self._start = sum(index.figures["shard_rows"][:first])

    def __len__(self) -> int:
        """Returns the number of documents."""
        return len(self._columns["doc_id"])

    def search_dense(
        self, vectors: np.ndarray, k: int, document_filter: DocumentFilter = ALL_DOCUMENTS
    ) -> list[RankedPositions]:
        """Returns the documents nearest to each query vector.

        Args:
            vectors: (queries, dim) float32 unit vectors.
            k: number of results per query; fewer are returned if fewer documents pass the filter.
            document_filter: documents that may be returned.
        """
        scores, positions = self._vectors.search(vectors, k, self._allowed(document_filter))
        return [(row[row >= 0] + self._start, values[row >= 0]) for row, values in zip(positions, scores, strict=True)]

    def search_bm25(self, query: str, k: int, document_filter: DocumentFilter = ALL_DOCUMENTS) -> RankedPositions:
        """Returns the documents with the best BM25 scores, among those that share a word with the query.

        Args:
            query: text.
            k: number of results.
            document_filter: documents that may be returned.

        Raises:
            UserError: the index was built without BM25.
        """
        if not self._bm25:
            raise UserError(
                "the index was built with index.bm25=false and cannot be searched by words; use mode `dense`"
            )
        scores = np.concatenate([bm25.scores(query) for bm25 in self._bm25])
        scores[scores <= 0] = -np.inf
        if (allowed := self._allowed(document_filter)) is not None:
            scores[~allowed] = -np.inf
        best = top_k(scores, k)
        return best + self._start, scores[best]

    def documents(self, positions: Sequence[int], with_text: bool = True) -> dict[int, dict[str, str]]:
        """Returns documents by position, for those positions that lie in these shards.

        Args:
            positions: in the whole index.
            with_text: whether ``text`` is returned beside ``doc_id`` and ``task``.
        """
        columns = {name: column for name, column in self._columns.items() if with_text or name != "text"}
        return {
            position: {name: column[position - self._start].as_py() for name, column in columns.items()}
            for position in self._own(positions)
        }

    def text_bytes(self, positions: Sequence[int]) -> int:
        """Returns the size of the texts at those positions that lie in these shards."""
        column, own = self._columns["text"], np.array(self._own(positions), np.int64) - self._start
        if not len(own):
            return 0
        offsets = np.frombuffer(column.buffers()[1], np.int64)[column.offset :]
        return int((offsets[own + 1] - offsets[own]).sum())

    def _own(self, positions: Sequence[int]) -> list[int]:
        """Returns those positions that lie in these shards."""
        return [position for position in positions if 0 <= position - self._start < len(self)]

    def _allowed(self, document_filter: DocumentFilter) -> np.ndarray | None:
        """Returns (documents,) bool, True where a document passes the filter; None if all pass."""
        if document_filter == ALL_DOCUMENTS:
            return None
        allowed = pa.array(np.ones(len(self), bool))
        if document_filter.task is not None:
            allowed = pc.equal(self._columns["task"], document_filter.task)
        if document_filter.exclude_ids:
            excluded = pc.is_in(self._columns["doc_id"], value_set=pa.array(document_filter.exclude_ids, TEXT))
            allowed = pc.and_not(allowed, excluded)
        mask: np.ndarray = allowed.to_numpy(zero_copy_only=False)
        return mask


def _check_files(index: Artifact, shards: Sequence[int], names: Sequence[str]) -> None:
    """Compares the files of shards with the record.

    Args:
        index: artifact of the index.
        shards: numbers of the shards.
        names: files that the record must list for every shard, relative to the shard's folder.

    Raises:
        UserError: a file is not listed, is missing or differs.
    """
    folders = tuple(f"{shard_folder(shard)}/" for shard in shards)
    entries = {entry.path: entry for entry in index.files if entry.path.startswith(folders)}
    for path in dict.fromkeys([*(folder + name for folder in folders for name in names), *entries]):
        exists = path in entries and storage.exists(storage.join(index.uri, path))
        if not exists or storage.describe_file(index.uri, path) != entries[path]:
            raise UserError(
                f"index {index.uri} is damaged: {path} is missing or differs from its record; build the index again"
            )


def load_index_artifact(uri: str) -> Artifact:
    """Returns the artifact of the index at a URI.

    Raises:
        UserError: there is no finished index, its record is damaged, or it has an earlier layout.
    """
    index = artifacts.load(uri)
    if index is None:
        raise UserError(f"no finished index at {uri}; run the pipeline first (make quickstart)")
    check_index_record(index)
    return index


def merge_rankings(rankings: Sequence[RankedPositions], k: int) -> RankedPositions:
    """Returns the k best results of one query over several sets of shards; equal scores are in order of position."""
    positions, scores = (np.concatenate(columns) for columns in zip(*rankings, strict=True))
    order = np.lexsort((positions, -scores))[:k]
    return positions[order], scores[order]
