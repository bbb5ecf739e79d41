"""Exchange of training rows with other tools: the published JSONL, and ``datasets`` for Sentence Transformers.

The published layout (docs/method.md: ReMixer) is one JSONL file per task; each line has ``prompt``, ``query``,
``reasoning_query``, ``pos``, ``neg``, ``train_group_size`` and ``batch_size``. Our files have more fields (ids, grades,
scores), which other readers of the layout ignore.
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from reasonembed import schemas, storage
from reasonembed.artifacts import Artifact
from reasonembed.config import Export
from reasonembed.embedder.prompts import query_text
from reasonembed.errors import UserError
from reasonembed.ids import digest
from reasonembed.remixer.assemble import usable_rows

PUBLISHED_FIELDS = ("prompt", "query", "reasoning_query", "pos", "neg", "train_group_size", "batch_size")
ADDITIONAL_FIELDS = ("query_id", "pos_score", "neg_score", "pos_grade", "neg_grade")
DEFAULT_SHAPE = (16, 8)
"""(Group size, batch size) of a row without them."""
ORIGIN = "origin.json"


def write_published(training: pa.Table, uri: str) -> list[str]:
    """Writes a ``<task>.jsonl`` for each task.

    Args:
        training: ``schemas.TRAINING``.
        uri: of the folder to write.

    Returns:
        The names of the files.
    """
    lines_by_task: dict[str, list[str]] = {}
    for row in training.to_pylist():
        line = {name: row[name] for name in (*PUBLISHED_FIELDS, *ADDITIONAL_FIELDS)}
        lines_by_task.setdefault(row["task"], []).append(json.dumps(line, ensure_ascii=False))
    for task, lines in lines_by_task.items():
        storage.write_bytes(storage.join(uri, f"{task}.jsonl"), ("\n".join(lines) + "\n").encode())
    return [f"{task}.jsonl" for task in lines_by_task]


def read_published(uri: str) -> pa.Table:
    """Returns the rows of a folder of JSONL files; the name of a file is the task of its rows.

    A positive without grade and score gets grade 5 and score 1, such a negative grade 1 and score 0.

    Args:
        uri: of the folder.

    Returns:
        ``schemas.TRAINING``.

    Raises:
        UserError: the folder has no such file, or a line is not a row of the layout.
    """
    rows = [_row(number, task, line, position) for number, (task, line, position) in enumerate(_lines(uri))]
    if not rows:
        raise UserError(f"train.data {uri}: no training row in the .jsonl files of this folder")
    return pa.Table.from_pylist(rows, schema=schemas.TRAINING)


def published_fingerprint(uri: str) -> str:
    """Returns a hash of the folder's ``.jsonl`` files."""
    entries = [storage.describe_file(uri, name) for name in _files(uri)]
    return digest(*(part for entry in entries for part in (entry.path, entry.sha256)))


def _files(uri: str) -> list[str]:
    names = [name for name in storage.list_files(uri) if name.endswith(".jsonl")]
    if not names:
        raise UserError(f"train.data {uri}: no .jsonl file in this folder")
    return names


def _lines(uri: str) -> Iterator[tuple[str, Any, str]]:
    """Yields the task, the parsed JSON and the position (for messages) of every line."""
    for name in _files(uri):
        for number, line in enumerate(storage.read_bytes(storage.join(uri, name)).splitlines(), start=1):
            if line.strip():
                position = f"{storage.join(uri, name)}, line {number}"
                try:
                    yield PurePosixPath(name).stem, json.loads(line), position
                except ValueError as error:
                    raise UserError(f"{position}: not JSON ({error})") from None


def _row(number: int, task: str, line: Any, position: str) -> dict[str, Any]:
    if not isinstance(line, dict):
        raise UserError(f"{position}: a JSON object is expected, not a {type(line).__name__}")
    texts = {name: line.get(name) for name in ("prompt", "query", "reasoning_query")}
    texts["reasoning_query"] = texts["reasoning_query"] or texts["query"]
    for name, text in texts.items():
        if not isinstance(text, str) or (name != "prompt" and not text.strip()):
            raise UserError(f"{position}: field {name!r} must be text")
    passages = {name: line.get(name) for name in ("pos", "neg")}
    for name, entries in passages.items():
        if not isinstance(entries, list) or not entries or not all(isinstance(text, str) for text in entries):
            raise UserError(f"{position}: field {name!r} must be a list of at least one text")
    row = {**texts, **passages, "task": task, "query_id": line.get("query_id") or digest("row", task, str(number))}
    for side, grade, score in (("pos", 5, 1.0), ("neg", 1, 0.0)):
        for kind, default in (("grade", grade), ("score", score)):
            values = line.get(f"{side}_{kind}") or [default] * len(line[side])
            if len(values) != len(line[side]):
                raise UserError(f"{position}: {side}_{kind} must be as long as {side}")
            row[f"{side}_{kind}"] = values
    row["train_group_size"] = line.get("train_group_size") or DEFAULT_SHAPE[0]
    row["batch_size"] = line.get("batch_size") or DEFAULT_SHAPE[1]
    return row


def write_datasets(training: pa.Table, folder: Path, negatives: int, instruct: bool) -> int:
    """Writes a ``datasets`` folder with the columns anchor, positive, negative_1, ..., negative_n.

    Each row gets its best positive and evenly spaced negatives, which are repeated if there are too few.

    Args:
        training: ``schemas.TRAINING``, accepted rows only.
        folder: to write.
        negatives: number of negatives per row.
        instruct: whether the anchor contains the row's instruction, as ``encode.instruct``.

    Returns:
        The number of rows.
    """
    import datasets

    columns: dict[str, list[str]] = {"anchor": [], "positive": []}
    columns |= {f"negative_{number}": [] for number in range(1, negatives + 1)}
    for row in training.to_pylist():
        columns["anchor"].append(query_text(row["query"], row["prompt"], instruct))
        columns["positive"].append(row["pos"][0])
        texts = row["neg"]
        for number in range(negatives):
            index = number * len(texts) // negatives if len(texts) >= negatives else number % len(texts)
            columns[f"negative_{number + 1}"].append(texts[index])
    data = datasets.Dataset.from_dict(columns)
    data.save_to_disk(str(folder))
    return int(data.num_rows)


def export_training(training: Artifact, settings: Export, instruct: bool) -> tuple[str, dict[str, Any]]:
    """Writes the accepted training rows for other tools, and then a file that names the artifact they come from.

    Args:
        training: artifact of the training rows.
        settings: the section ``export``.
        instruct: ``encode.instruct``.

    Returns:
        URI of the export, and figures.

    Raises:
        UserError: ``export.to`` is not empty.
    """
    uri = storage.absolute(settings.to)
    if storage.list_files(uri):
        raise UserError(f"export.to {settings.to} is not empty; name another folder or remove it")
    rows = usable_rows(training.table(schemas.TRAINING))
    if settings.format == "jsonl":
        write_published(rows, uri)
    else:
        with tempfile.TemporaryDirectory(prefix="reasonembed-") as folder:
            write_datasets(rows, Path(folder), settings.negatives, instruct)
            storage.upload_tree(Path(folder), uri)
    origin = {"training": training.uri, "fingerprint": training.fingerprint, "rows": rows.num_rows}
    storage.write_bytes(storage.join(uri, ORIGIN), json.dumps(origin, indent=1).encode())
    return uri, {"rows": rows.num_rows}
