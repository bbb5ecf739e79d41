"""Training rows to and from other tools: the published JSONL, and a ``datasets`` folder for Sentence Transformers.

The published layout (METHOD: ReMixer) is one JSONL file a task, each line with ``prompt``, ``query``,
``reasoning_query``, ``pos`` and ``neg``, and ``train_group_size`` and ``batch_size``. What a row of ours has beyond
that (ids, grades, scores) goes along under its own names, which readers of the layout pass over.
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

PUBLISHED = ("prompt", "query", "reasoning_query", "pos", "neg", "train_group_size", "batch_size")
OURS = ("query_id", "pos_score", "neg_score", "pos_grade", "neg_grade")
DEFAULT_SHAPE = (16, 8)
ORIGIN = "origin.json"


def write_published(training: pa.Table, uri: str) -> list[str]:
    """Write ``<task>.jsonl`` below ``uri``; returns the names."""
    lines: dict[str, list[str]] = {}
    for row in training.to_pylist():
        line = {name: row[name] for name in (*PUBLISHED, *OURS)}
        lines.setdefault(row["task"], []).append(json.dumps(line, ensure_ascii=False))
    for task, of_task in lines.items():
        storage.write_bytes(storage.join(uri, f"{task}.jsonl"), ("\n".join(of_task) + "\n").encode())
    return [f"{task}.jsonl" for task in lines]


def read_published(uri: str) -> pa.Table:
    """``schemas.TRAINING`` out of a folder of JSONL files; the file's name is the task.

    Without grades a positive has grade 5 and score 1, a negative grade 1 and score 0.

    Raises:
        UserError: no file is there, or a line is not a row of the layout.
    """
    rows = [_row(number, task, line, where) for number, (task, line, where) in enumerate(_lines(uri))]
    if not rows:
        raise UserError(f"train.data {uri}: no training row in its .jsonl files")
    return pa.Table.from_pylist(rows, schema=schemas.TRAINING)


def published_fingerprint(uri: str) -> str:
    """Stands for the content of the folder."""
    entries = [storage.describe_file(uri, name) for name in _files(uri)]
    return digest(*(part for entry in entries for part in (entry.path, entry.sha256)))


def _files(uri: str) -> list[str]:
    names = [name for name in storage.list_files(uri) if name.endswith(".jsonl")]
    if not names:
        raise UserError(f"train.data {uri}: no .jsonl file there")
    return names


def _lines(uri: str) -> Iterator[tuple[str, Any, str]]:
    for name in _files(uri):
        for number, line in enumerate(storage.read_bytes(storage.join(uri, name)).splitlines(), start=1):
            if line.strip():
                where = f"{storage.join(uri, name)}, line {number}"
                try:
                    yield PurePosixPath(name).stem, json.loads(line), where
                except ValueError as error:
                    raise UserError(f"{where}: not JSON ({error})") from None


def _row(number: int, task: str, line: Any, where: str) -> dict[str, Any]:
    if not isinstance(line, dict):
        raise UserError(f"{where}: a JSON object is expected, not a {type(line).__name__}")
    texts = {name: line.get(name) for name in ("prompt", "query", "reasoning_query")}
    texts["reasoning_query"] = texts["reasoning_query"] or texts["query"]
    for name, text in texts.items():
        if not isinstance(text, str) or (name != "prompt" and not text.strip()):
            raise UserError(f"{where}: field {name!r} must be text")
    passages = {name: line.get(name) for name in ("pos", "neg")}
    for name, side in passages.items():
        if not isinstance(side, list) or not side or not all(isinstance(text, str) for text in side):
            raise UserError(f"{where}: field {name!r} must be a list of one text or more")
    row = {**texts, **passages, "task": task, "query_id": line.get("query_id") or digest("row", task, str(number))}
    for side, grade, score in (("pos", 5, 1.0), ("neg", 1, 0.0)):
        for kind, default in (("grade", grade), ("score", score)):
            values = line.get(f"{side}_{kind}") or [default] * len(line[side])
            if len(values) != len(line[side]):
                raise UserError(f"{where}: {side}_{kind} must be as long as {side}")
            row[f"{side}_{kind}"] = values
    row["train_group_size"] = line.get("train_group_size") or DEFAULT_SHAPE[0]
    row["batch_size"] = line.get("batch_size") or DEFAULT_SHAPE[1]
    return row


def write_datasets(training: pa.Table, folder: Path, negatives: int, instruct: bool) -> int:
    """Save (anchor, positive, negative_1, ..., negative_n) as a ``datasets`` folder; returns the rows.

    A row gives its best positive and, of its negatives, evenly spaced ones; they repeat only to fill.

    Args:
        training: ``schemas.TRAINING``, accepted rows only.
        folder: to write.
        negatives: per row.
        instruct: the anchor carries the row's instruction, for a model that is asked so.
    """
    import datasets

    columns: dict[str, list[str]] = {"anchor": [], "positive": []}
    columns |= {f"negative_{number}": [] for number in range(1, negatives + 1)}
    for row in training.to_pylist():
        columns["anchor"].append(query_text(row["query"], row["prompt"], instruct))
        columns["positive"].append(row["pos"][0])
        found = row["neg"]
        for number in range(negatives):
            at = number * len(found) // negatives if len(found) >= negatives else number % len(found)
            columns[f"negative_{number + 1}"].append(found[at])
    data = datasets.Dataset.from_dict(columns)
    data.save_to_disk(str(folder))
    return int(data.num_rows)


def export_training(training: Artifact, settings: Export, instruct: bool) -> tuple[str, dict[str, Any]]:
    """Write the accepted training rows for other tools, and beside them, last, what they were made of.

    Returns:
        URI of the export, and figures.

    Raises:
        UserError: there is something at ``export.to`` already.
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
