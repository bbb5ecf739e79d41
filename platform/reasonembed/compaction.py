"""From the many small files that workers wrote to the few that an artefact keeps, in the order of the stage's input.

Workers finish in any order, an interrupted stage leaves blocks of other sizes than an uninterrupted one, and a row that
was asked for again stands there twice. After compaction none of that shows: the same rows give the same files, byte for
byte, on disk and on S3.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reasonembed import storage

FILE_BYTES = 128 << 20
ROWS_AT_A_TIME = 32_768
OPEN_TABLES = 64


def compact(
    scratch: Sequence[str],
    order: Sequence[str],
    id_column: str,
    schema: pa.Schema,
    uri: str,
    then_by: str | None = None,
    finish: Callable[[pa.Table], pa.Table] = lambda table: table,
    file_bytes: int = FILE_BYTES,
    row_group_rows: int | None = None,
) -> int:
    """Write ``part-00000.parquet`` and so on below ``uri``.

    Args:
        scratch: URIs of the workers' files. Of several rows with one id the accepted one stays, else the latest.
        order: URIs of the stage's input, whose ids give the order.
        id_column: in both.
        schema: of the result; its columns are in the scratch files.
        uri: the artefact.
        then_by: second key, for a stage that makes many rows of one; then none of them is left out.
        finish: a last look at the rows, in order, a table at a time.
        file_bytes: a file that has grown to this is closed and the next one begun.
        row_group_rows: rows of a row group, the least that a reader fetches; Parquet's default when left out.

    Returns:
        Ids of the input for which there is no row.
    """
    sorter = _Sorter(scratch, order, id_column, "reject_reason" if "reject_reason" in schema.names else None, then_by)
    parts = _Parts(uri, schema, file_bytes, row_group_rows)
    tables = _Tables(scratch, schema)
    try:
        for start in range(0, max(1, len(sorter.rows)), ROWS_AT_A_TIME):
            chosen = sorter.rows[start : start + ROWS_AT_A_TIME]
            parts.write(finish(tables.take(sorter.file[chosen], sorter.row[chosen])))
    finally:
        parts.close()
    return sorter.missing


class _Sorter:
    """Which rows of which files stay, in which order."""

    def __init__(
        self, scratch: Sequence[str], order: Sequence[str], id_column: str, reject: str | None, then_by: str | None
    ) -> None:
        ids = pa.chunked_array(
            [c for uri in order for c in storage.read_columns(uri, [id_column])[id_column].chunks], pa.string()
        )
        names = [id_column, *([reject] if reject else []), *([then_by] if then_by else [])]
        keys = storage.each_of(lambda uri: storage.read_columns(uri, names), scratch)
        sizes = [table.num_rows for table in keys]
        self.file = np.repeat(np.arange(len(keys)), sizes)
        self.row = np.concatenate([np.arange(size) for size in sizes]) if sizes else np.zeros(0, np.int64)
        if not len(self.file):
            self.rows, self.missing = np.zeros(0, np.int64), len(ids)
            return
        table = pa.concat_tables(keys)
        position = pc.index_in(table[id_column], value_set=ids).to_numpy()
        known = np.flatnonzero(~np.isnan(position.astype(float)))
        position = position[known].astype(np.int64)
        if then_by:
            self.rows = known[np.lexsort((table[then_by].to_numpy()[known], position))]
        else:
            rejected = pc.is_valid(table[reject]).to_numpy()[known] if reject else np.zeros(len(known), bool)
            best = np.lexsort((-self.file[known], rejected, position))
            first = np.append(True, np.diff(position[best]) != 0)
            self.rows = known[best[first]]
        self.missing = len(ids) - len(np.unique(position))


class _Tables:
    """Rows out of many files; the files read last stay in memory, because neighbours mostly lie together."""

    def __init__(self, uris: Sequence[str], schema: pa.Schema) -> None:
        self._uris = uris
        self._schema = schema
        self._open: OrderedDict[int, pa.Table] = OrderedDict()

    def take(self, files: np.ndarray, rows: np.ndarray) -> pa.Table:
        wanted = np.unique(files)
        pieces, places = [], []
        for some in _groups(wanted, OPEN_TABLES):
            self._read(some)
            for file in some:
                here = np.flatnonzero(files == file)
                pieces.append(self._open[file].take(rows[here]))
                places.append(here)
        if not pieces:
            return self._schema.empty_table()
        back = np.argsort(np.concatenate(places), kind="stable")
        return pa.concat_tables(pieces).take(back).combine_chunks()

    def _read(self, files: list[int]) -> None:
        missing = [file for file in files if file not in self._open]
        found = storage.each_of(
            lambda uri: storage.read_table([uri], self._schema), [self._uris[file] for file in missing]
        )
        self._open.update(zip(missing, found, strict=True))
        for file in files:
            self._open.move_to_end(file)
        while len(self._open) > OPEN_TABLES:
            self._open.popitem(last=False)


class _Parts:
    """The files of the artefact, one open at a time."""

    def __init__(self, uri: str, schema: pa.Schema, file_bytes: int, row_group_rows: int | None) -> None:
        self._uri, self._schema, self._file_bytes, self._row_group_rows = uri, schema, file_bytes, row_group_rows
        self._number = 0
        self._sink: pa.NativeFile | None = None
        self._writer: pq.ParquetWriter | None = None

    def write(self, table: pa.Table) -> None:
        if self._writer is None:
            self._sink = storage.open_output(storage.join(self._uri, f"part-{self._number:05d}.parquet"))
            self._writer = pq.ParquetWriter(self._sink, self._schema, compression="zstd")
            self._number += 1
        assert self._sink is not None
        self._writer.write_table(table.cast(self._schema), row_group_size=self._row_group_rows)
        if self._sink.tell() >= self._file_bytes:
            self.close()

    def close(self) -> None:
        if self._writer is not None and self._sink is not None:
            self._writer.close()
            self._sink.close()
            self._writer = self._sink = None


def _groups(values: np.ndarray, size: int) -> Iterator[list[int]]:
    for start in range(0, len(values), size):
        yield [int(value) for value in values[start : start + size]]
