"""Functions that readers share: rows of files, and tables of the right schema."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from reasonembed import schemas
from reasonembed.errors import UserError


def json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (position, object) of every line that is not empty; the position, ``<path>, line 3``, is for errors.

    Bytes that are not UTF-8 become lone surrogates, so that ``documents_table`` can reject the one broken document.

    Raises:
        UserError: the file is missing, or a line is not a JSON object.
    """
    try:
        with path.open(encoding="utf-8", errors="surrogateescape") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    value = json.loads(line)
                except ValueError as error:
                    raise UserError(f"{path}, line {number}: not JSON ({error})") from None
                if not isinstance(value, dict):
                    raise UserError(f"{path}, line {number}: a JSON object is expected, not a {type(value).__name__}")
                yield f"{path}, line {number}", value
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None


def text_field(row: dict[str, Any], names: Sequence[str], position: str, default: str | None = None) -> str:
    """Returns the first of the named fields that the row has, as text; whole numbers become text.

    Args:
        row: of a file.
        names: of the field, the preferred one first.
        position: of the row, for errors.
        default: for a row with none of the fields; without it they are required.

    Raises:
        UserError: the field is missing or is not text.
    """
    for name in names:
        if name in row and row[name] is not None:
            if not isinstance(row[name], str | int):
                raise UserError(f"{position}: field {name!r} must be text, not {type(row[name]).__name__}")
            return str(row[name])
    if default is None:
        raise UserError(f"{position}: no field {' or '.join(repr(n) for n in names)}; it has {', '.join(sorted(row))}")
    return default


def ids_field(row: dict[str, Any], name: str, position: str) -> list[str]:
    """Returns a field with a list of document ids; an empty list for a row without the field.

    Raises:
        UserError: the field is not a list of strings.
    """
    values = row.get(name) or []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise UserError(f"{position}: field {name!r} must be a list of document ids")
    return values


def documents_table(rows: Iterable[tuple[str, str, str, str]], keep_empty: bool = False) -> pa.Table:
    """Returns ``schemas.DOCUMENTS`` with a reject reason for each document that is not valid UTF-8 or is empty.

    Args:
        rows: (task, document id, title, text).
        keep_empty: accept empty documents, as benchmarks do: their published figures include them.
    """
    complete = ((*map(_valid_utf8, row), _reject_reason(row, keep_empty)) for row in rows)
    columns = list(zip(*complete, strict=True)) or [()] * len(schemas.DOCUMENTS)
    return pa.table([pa.array(column, pa.string()) for column in columns], schema=schemas.DOCUMENTS)


def _valid_utf8(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _reject_reason(row: tuple[str, str, str, str], keep_empty: bool) -> str | None:
    try:
        for field in row:
            field.encode("utf-8")
    except UnicodeEncodeError:
        return "text is not valid UTF-8"
    return None if keep_empty or row[3].strip() else "empty text"


def question_row(
    task: str,
    query_id: str,
    query: str,
    instruction: str,
    gold: dict[str, int],
    excluded: Sequence[str] = (),
) -> dict[str, Any]:
    """Returns a row of ``schemas.QUESTIONS``.

    Args:
        task: of the question.
        query_id: unique within the task.
        query: text of the question.
        instruction: retrieval instruction; empty when the benchmark has none.
        gold: grade of each relevant document by its id.
        excluded: ids of documents that are removed from rankings of this question.
    """
    return {
        "task": task,
        "query_id": query_id,
        "query": _valid_utf8(query),
        "instruction": instruction,
        "gold_ids": list(gold),
        "gold_grades": list(gold.values()),
        "excluded_ids": list(excluded),
    }


def texts_by_key(corpus: pa.Table) -> dict[tuple[str, str], str]:
    """Returns the text of each (task, document id) of ``schemas.CORPUS``."""
    keys = zip(corpus["task"].to_pylist(), corpus["doc_id"].to_pylist(), strict=True)
    return dict(zip(keys, corpus["text"].to_pylist(), strict=True))
