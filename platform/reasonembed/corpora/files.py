"""Plain folders of JSONL or Parquet: one document a row, with ``text`` (or ``content``), and ``doc_id``, ``title`` and
``task`` where the user has them. Without an id a document gets one from its text; without a task, the folder's name.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reasonembed.corpora.tables import corpus_table, json_lines, text_field
from reasonembed.errors import UserError
from reasonembed.ids import digest


def read_corpus(place: str, tasks: Sequence[str] | None) -> pa.Table:
    folder = Path(place)
    if not folder.is_dir():
        raise UserError(f"files:{place}: no such folder")
    default_task = folder.resolve().name
    return corpus_table(_document(row, where, default_task) for where, row in _rows(folder))


def _document(row: dict[str, Any], where: str, default_task: str) -> tuple[str, str, str, str]:
    text = text_field(row, ["text", "content"], where)
    doc_id = text_field(row, ["doc_id", "id", "_id"], where, digest("document", text))
    return text_field(row, ["task"], where, default_task), doc_id, text_field(row, ["title"], where, ""), text


def _rows(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    paths = sorted(path for path in folder.iterdir() if path.suffix in (".jsonl", ".parquet"))
    if not paths:
        raise UserError(f"files:{folder}: no .jsonl or .parquet file in it")
    for path in paths:
        if path.suffix == ".jsonl":
            for number, row in json_lines(path):
                yield f"{path}, line {number}", row
        else:
            try:
                batches = pq.ParquetFile(path).iter_batches()
                number = 0
                for batch in batches:
                    for row in _rows_of(batch):
                        number += 1
                        yield f"{path}, row {number}", row
            except pa.ArrowInvalid as error:
                raise UserError(f"{path}: not a Parquet file ({error})") from None


def _rows_of(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Rows whose strings are read as ``json_lines`` reads them: Parquet does not check what it calls UTF-8."""
    columns = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            raw = column.cast(pa.large_binary()).to_pylist()
            columns[name] = [None if cell is None else cell.decode("utf-8", "surrogateescape") for cell in raw]
        else:
            columns[name] = column.to_pylist()
    for cells in zip(*columns.values(), strict=True):
        yield dict(zip(columns, cells, strict=True))
