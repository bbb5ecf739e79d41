"""Compaction: the many small files of workers become the few files of an artifact, in the order of the stage's input.

Workers finish in any order, an interrupted stage writes blocks of other sizes, and a row that was repeated has several
results. After compaction the same rows are the same files, byte for byte, on disk and on S3.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence

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
    inputs: Sequence[str],
    id_column: str,
    schema: pa.Schema,
    uri: str,
    then_by: str | None = None,
    finish: Callable[[pa.Table], pa.Table] = lambda table: table,
    file_bytes: int = FILE_BYTES,
    row_group_rows: int | None = None,
) -> int:
    """Writes ``part-00000.parquet`` and so on below ``uri``.

    Of several rows with one id the accepted one is written; of several rejected ones the latest.

    Args:
        scratch: URIs of the workers' files, the oldest first; they have the columns of the schema.
        inputs: URIs of the stage's input files, whose ids give the order.
        id_column: column of the ids, in the scratch files and in the input.
        schema: of the artifact.
        uri: of the artifact.
        then_by: second sort key, for a stage that makes several rows of one; all of them are written.
        finish: transforms the rows, which it receives in order, one table after the other.
        file_bytes: size at which a file is closed and the next one is begun.
        row_group_rows: rows of a row group, the smallest unit that a reader can fetch; default: Parquet's.

    Returns:
        The number of ids of the input without a row.
    """
    reject_column = "reject_reason" if "reject_reason" in schema.names else None
    selection = _RowSelection(scratch, inputs, id_column, reject_column, then_by)
    reader = _RowReader(scratch, schema)
    writer = _PartWriter(uri, schema, file_bytes, row_group_rows)
    try:
        for start in range(0, max(1, len(selection.files)), ROWS_AT_A_TIME):
            rows = slice(start, start + ROWS_AT_A_TIME)
            writer.write(finish(reader.read(selection.files[rows], selection.rows[rows])))
    finally:
        writer.close()
    return selection.missing


class _RowSelection:
    """The rows of the artifact, in order.

    Attributes:
        files: (rows,) index of each row's scratch file.
        rows: (rows,) index of each row in its file.
        missing: number of ids of the input without a row.
    """

    def __init__(
        self,
        scratch: Sequence[str],
        inputs: Sequence[str],
        id_column: str,
        reject_column: str | None,
        then_by: str | None,
    ) -> None:
        chunks = [chunk for uri in inputs for chunk in storage.read_columns(uri, [id_column])[id_column].chunks]
        ids = pa.chunked_array(chunks, pa.string())
        names = [name for name in (id_column, reject_column, then_by) if name]
        tables = storage.map_concurrently(lambda uri: storage.read_columns(uri, names), scratch)
        counts = [table.num_rows for table in tables]
        files = np.repeat(np.arange(len(tables)), counts)
        rows = np.concatenate([np.arange(count) for count in counts]) if counts else np.zeros(0, np.int64)
        if not len(files):
            self.files, self.rows, self.missing = files, rows, len(ids)
            return
        table = pa.concat_tables(tables)
        position = pc.index_in(table[id_column], value_set=ids).to_numpy().astype(float)  # NaN: not in the input
        in_input = np.flatnonzero(~np.isnan(position))
        position = position[in_input].astype(np.int64)
        if then_by:
            order = in_input[np.lexsort((table[then_by].to_numpy()[in_input], position))]
        else:
            rejected = np.zeros(len(in_input), bool)
            if reject_column:
                rejected = pc.is_valid(table[reject_column]).to_numpy()[in_input]
            best_first = np.lexsort((-files[in_input], rejected, position))
            is_first_of_id = np.append(True, np.diff(position[best_first]) != 0)
            order = in_input[best_first[is_first_of_id]]
        self.files, self.rows = files[order], rows[order]
        self.missing = len(ids) - len(np.unique(position))


class _RowReader:
    """Reads rows of many files. The files used last stay in memory, because rows in order are mostly from few files."""

    def __init__(self, uris: Sequence[str], schema: pa.Schema) -> None:
        self._uris = uris
        self._schema = schema
        self._tables: OrderedDict[int, pa.Table] = OrderedDict()

    def read(self, files: np.ndarray, rows: np.ndarray) -> pa.Table:
        """Returns rows in the given order.

        Args:
            files: (rows,) index of each row's file.
            rows: (rows,) index of each row in its file.
        """
        needed = [int(file) for file in np.unique(files)]
        pieces, positions = [], []
        for start in range(0, len(needed), OPEN_TABLES):
            group = needed[start : start + OPEN_TABLES]
            self._open(group)
            for file in group:
                of_file = np.flatnonzero(files == file)
                pieces.append(self._tables[file].take(rows[of_file]))
                positions.append(of_file)
        if not pieces:
            return self._schema.empty_table()
        order = np.argsort(np.concatenate(positions), kind="stable")
        return pa.concat_tables(pieces).take(order).combine_chunks()

    def _open(self, files: list[int]) -> None:
        missing = [file for file in files if file not in self._tables]
        tables = storage.map_concurrently(
            lambda uri: storage.read_table([uri], self._schema), [self._uris[file] for file in missing]
        )
        self._tables.update(zip(missing, tables, strict=True))
        for file in files:
            self._tables.move_to_end(file)
        while len(self._tables) > OPEN_TABLES:
            self._tables.popitem(last=False)


class _PartWriter:
    """Writes the files of the artifact, one after the other."""

    def __init__(self, uri: str, schema: pa.Schema, file_bytes: int, row_group_rows: int | None) -> None:
        self._uri, self._schema, self._file_bytes, self._row_group_rows = uri, schema, file_bytes, row_group_rows
        self._number = 0
        self._stream: pa.NativeFile | None = None
        self._writer: pq.ParquetWriter | None = None

    def write(self, table: pa.Table) -> None:
        """Appends a table to the open file, and closes it when it is large enough."""
        if self._writer is None:
            self._stream = storage.open_output(storage.join(self._uri, f"part-{self._number:05d}.parquet"))
            self._writer = pq.ParquetWriter(self._stream, self._schema, compression="zstd")
            self._number += 1
        assert self._stream is not None
        self._writer.write_table(table.cast(self._schema), row_group_size=self._row_group_rows)
        if self._stream.tell() >= self._file_bytes:
            self.close()

    def close(self) -> None:
        """Completes the open file, if there is one."""
        if self._writer is not None and self._stream is not None:
            self._writer.close()
            self._stream.close()
            self._writer = self._stream = None
