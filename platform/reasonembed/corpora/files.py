"""Folders of JSONL or Parquet files with one document per row.

A row has ``text`` (or ``content``) and optionally ``doc_id`` (or ``id``, ``_id``), ``title`` and ``task``. A document
without an id gets one made from its text; a document without a task gets the folder's name as its task.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reasonembed.corpora.reader import Reader
from reasonembed.corpora.tables import documents_table, json_lines, text_field
from reasonembed.errors import UserError
from reasonembed.ids import digest


class FilesReader(Reader):
    """Reads the ``.jsonl`` and ``.parquet`` files of a folder, which have documents and no questions."""

    location_form = "<folder>"

    def read_documents(self, location: str, tasks: Sequence[str] | None) -> pa.Table:
        """Returns the rows of all files, in the order of the file names; documents with an empty text are rejected."""
        folder = Path(location)
        if not folder.is_dir():
            raise UserError(f"files:{location}: no such folder")
        default_task = folder.resolve().name
        return documents_table(_document(row, position, default_task) for position, row in _rows(folder))


def _document(row: dict[str, Any], position: str, default_task: str) -> tuple[str, str, str, str]:
    """Returns (task, document id, title, text)."""
    text = text_field(row, ["text", "content"], position)
    doc_id = text_field(row, ["doc_id", "id", "_id"], position, digest("document", text))
    return text_field(row, ["task"], position, default_task), doc_id, text_field(row, ["title"], position, ""), text


def _rows(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (position of the row, row)."""
    paths = sorted(path for path in folder.iterdir() if path.suffix in (".jsonl", ".parquet"))
    if not paths:
        raise UserError(f"files:{folder}: no .jsonl or .parquet file in it")
    for path in paths:
        yield from json_lines(path) if path.suffix == ".jsonl" else _parquet_rows(path)


def _parquet_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        number = 0
        for batch in pq.ParquetFile(path).iter_batches():
            for row in _batch_rows(batch):
                number += 1
                yield f"{path}, row {number}", row
    except pa.ArrowInvalid as error:
        raise UserError(f"{path}: not a Parquet file ({error})") from None


def _batch_rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Yields the rows of a batch. Invalid UTF-8, which Parquet does not exclude, becomes lone surrogates, as in
    ``json_lines``."""
    columns = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            values = column.cast(pa.large_binary()).to_pylist()
            columns[name] = [None if value is None else value.decode("utf-8", "surrogateescape") for value in values]
        else:
            columns[name] = column.to_pylist()
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))
