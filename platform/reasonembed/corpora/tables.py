"""What the readers share: JSON lines with line numbers in errors, and the checks that every table must pass."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from reasonembed import schemas
from reasonembed.errors import UserError


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number (from 1) and object of every non-empty line. Bytes that are not UTF-8 come as lone surrogates, so
    that whoever reads the row can tell which of its fields is broken.

    Raises:
        UserError: the file is missing, or a line is not a JSON object; file and line are named.
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
                yield number, value
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None


def text_field(row: dict[str, Any], names: Sequence[str], where: str, default: str | None = None) -> str:
    """The first of the named fields that the row has, as text."""
    for name in names:
        if name in row and row[name] is not None:
            if not isinstance(row[name], str | int):
                raise UserError(f"{where}: field {name!r} must be text, not {type(row[name]).__name__}")
            return str(row[name])
    if default is None:
        raise UserError(f"{where}: no field {' or '.join(repr(n) for n in names)}; it has {', '.join(sorted(row))}")
    return default


def ids_field(row: dict[str, Any], name: str, where: str) -> list[str]:
    """A list of document ids; none where the row has no such field."""
    values = row.get(name) or []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise UserError(f"{where}: field {name!r} must be a list of document ids")
    return values


def corpus_table(rows: Iterable[tuple[str, str, str, str]], benchmark: bool = False) -> pa.Table:
    """``schemas.DOCUMENTS`` out of (task, doc_id, title, text) rows.

    Args:
        rows: of a reader.
        benchmark: keep empty documents, which published figures were measured with.
    """
    found = ((*map(_encodable, row), _reject_reason(row, benchmark)) for row in rows)
    columns = list(zip(*found, strict=True)) or [()] * 5
    return pa.table([pa.array(column, pa.string()) for column in columns], schema=schemas.DOCUMENTS)


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _reject_reason(row: tuple[str, str, str, str], benchmark: bool) -> str | None:
    try:
        for field in row:
            field.encode("utf-8")
    except UnicodeEncodeError:
        return "text is not valid UTF-8"
    return None if benchmark or row[3].strip() else "empty text"


def question_row(
    task: str,
    query_id: str,
    query: str,
    instruction: str,
    gold: dict[str, int],
    excluded: Sequence[str] = (),
) -> dict[str, Any]:
    return {
        "task": task,
        "query_id": query_id,
        "query": _encodable(query),
        "instruction": instruction,
        "gold_ids": list(gold),
        "gold_grades": list(gold.values()),
        "excluded_ids": list(excluded),
    }


def check_corpus(table: pa.Table, source: str, tasks: Sequence[str] | None) -> pa.Table:
    table = select_tasks(table, source, tasks)
    if table.num_rows == 0:
        raise UserError(f"corpus {source} is empty: no document was found in it")
    counts = pc.value_counts(pc.binary_join_element_wise(table["task"], table["doc_id"], "\t"))
    if len(counts) < table.num_rows:
        twice = counts.filter(pc.greater(counts.field("counts"), 1))[0]["values"].as_py().split("\t")
        raise UserError(f"corpus {source}: document id {twice[1]!r} occurs more than once in task {twice[0]!r}")
    return table


def texts_by_key(corpus: pa.Table) -> dict[tuple[str, str], str]:
    """The text of each (task, document id) of ``schemas.CORPUS``."""
    keys = zip(corpus["task"].to_pylist(), corpus["doc_id"].to_pylist(), strict=True)
    return dict(zip(keys, corpus["text"].to_pylist(), strict=True))


def check_questions(table: pa.Table, corpus: pa.Table, source: str, tasks: Sequence[str] | None) -> pa.Table:
    table = select_tasks(table, source, tasks)
    if table.num_rows == 0:
        raise UserError(f"benchmark {source} has no questions")
    known = set(zip(corpus["task"].to_pylist(), corpus["doc_id"].to_pylist(), strict=True))
    seen: set[tuple[str, str]] = set()
    for row in table.select(["task", "query_id", "gold_ids"]).to_pylist():
        key = (row["task"], row["query_id"])
        if key in seen:
            raise UserError(f"benchmark {source}: query id {key[1]!r} occurs more than once in task {key[0]!r}")
        seen.add(key)
        if not row["gold_ids"]:
            raise UserError(f"benchmark {source}: query {key[1]!r} of task {key[0]!r} has no gold document")
        for doc_id in row["gold_ids"]:
            if (row["task"], doc_id) not in known:
                raise UserError(
                    f"benchmark {source}: query {key[1]!r} names gold document {doc_id!r}, "
                    f"which the corpus of task {key[0]!r} does not have"
                )
    return table


def select_tasks(table: pa.Table, source: str, tasks: Sequence[str] | None) -> pa.Table:
    present = pc.unique(table["task"]).to_pylist()
    return table.filter(pc.is_in(table["task"], pa.array(list(chosen_tasks(present, source, tasks)), pa.string())))


def chosen_tasks(present: Sequence[str], source: str, tasks: Sequence[str] | None) -> list[str]:
    """Those of the tasks that are there which were asked for; all when none was.

    Raises:
        UserError: one that was asked for is not there.
    """
    if missing := sorted(set(tasks or ()) - set(present)):
        raise UserError(f"{source} has no task {missing[0]!r}; its tasks: {', '.join(sorted(present)) or 'none'}")
    return [task for task in present if tasks is None or task in tasks]
