"""BEIR's layout: ``corpus.jsonl`` (_id, title, text), ``queries.jsonl`` (_id, text), ``qrels/<split>.tsv``."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from reasonembed import schemas, storage
from reasonembed.corpora.reader import Reader
from reasonembed.corpora.tables import documents_table, json_lines, question_row, text_field
from reasonembed.errors import UserError


class BeirReader(Reader):
    """Reads a BEIR folder as one task with the folder's name."""

    location_form = "<folder>"

    def read_documents(self, location: str, tasks: Sequence[str] | None) -> pa.Table:
        """Returns the rows of ``corpus.jsonl``."""
        folder = _existing_folder(location)
        task = folder.resolve().name
        path = folder / "corpus.jsonl"
        rows = (
            (
                task,
                text_field(row, ["_id"], position),
                text_field(row, ["title"], position, default=""),
                text_field(row, ["text"], position),
            )
            for position, row in json_lines(path)
        )
        return documents_table(rows, keep_empty=True)

    def read_questions(
        self, location: str, split: str, corpus: pa.Table, tasks: Sequence[str] | None, queries: str
    ) -> pa.Table:
        """Returns the queries that the qrels of the split judge; documents with grade zero are not gold."""
        folder = _existing_folder(location)
        task = folder.resolve().name
        qrels_path = folder / "qrels" / f"{split}.tsv"
        qrels = _read_qrels(qrels_path)
        rows = []
        for position, row in json_lines(folder / "queries.jsonl"):
            query_id = text_field(row, ["_id"], position)
            if query_id in qrels:
                rows.append(question_row(task, query_id, text_field(row, ["text"], position), "", qrels.pop(query_id)))
        if qrels:
            raise UserError(f"{qrels_path} judges query {next(iter(qrels))!r}, which queries.jsonl does not have")
        return pa.Table.from_pylist(rows, schema=schemas.QUESTIONS)

    def evaluation_splits(self, location: str) -> list[str]:
        """Returns those of ``dev`` and ``test`` that have qrels."""
        if not storage.exists(location):
            raise UserError(f"beir:{location}: no such folder")
        return [split for split in ("dev", "test") if storage.is_file(storage.join(location, "qrels", f"{split}.tsv"))]


def _read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Returns the grade of each document by query; only grades above zero."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        splits = ", ".join(sorted(file.stem for file in path.parent.glob("*.tsv"))) or "none"
        raise UserError(f"{path} does not exist; splits there: {splits}") from None
    qrels: dict[str, dict[str, int]] = defaultdict(dict)
    for number, line in enumerate(lines[1:], start=2):  # line 1 is the header
        fields = line.split("\t")
        try:
            query_id, doc_id, grade = fields[0], fields[1], int(fields[2])
        except (IndexError, ValueError):
            raise UserError(f"{path}, line {number}: query id, document id and a whole number are expected") from None
        if grade > 0:
            qrels[query_id][doc_id] = grade
    return dict(qrels)


def _existing_folder(location: str) -> Path:
    folder = Path(location)
    if not folder.is_dir():
        raise UserError(f"beir:{location}: no such folder")
    return folder
