"""R2MED's layout, from a folder or from the hub.

A folder has ``corpus.jsonl`` (id, text), ``query.jsonl`` (id, text) and ``qrels.jsonl`` (q_id, p_id, score) for one
task, named after the folder, or one such folder per task. On the hub every task is a data set of its own (such as
``R2MED/Biology``) with the configs ``corpus``, ``query`` and ``qrels``, each with one split of the config's name.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from reasonembed import schemas
from reasonembed.corpora.checks import select_task_names
from reasonembed.corpora.hub import hub_rows
from reasonembed.corpora.reader import Reader
from reasonembed.corpora.tables import documents_table, json_lines, question_row, text_field
from reasonembed.errors import UserError

_POST = "Given a {} post, retrieve relevant passages that help answer the post."
_EXAM = "Given a Medical Exam, retrieve relevant passages that help answer the exam."
_CASE = "Given a Clinical Case, retrieve similar cases that help diagnose the case."
INSTRUCTIONS = {
    "Biology": _POST.format("Biology"),
    "Bioinformatics": _POST.format("Bioinformatics"),
    "Medical-Sciences": _POST.format("Medical Science"),
    "MedXpertQA-Exam": _EXAM,
    "MedQA-Diag": _EXAM,
    "PMC-Treatment": "Given a Clinical Case, retrieve relevant passages that help answer the case.",
    "PMC-Clinical": _CASE,
    "IIYi-Clinical": _CASE,
}
"""The query instruction of each of R2MED's 8 tasks, with the final period."""
DEFAULT_INSTRUCTION = _POST.format("Medical Science")


class R2medReader(Reader):
    """Reads R2MED."""

    location_form = "<folder or hub owner>"
    instructions = INSTRUCTIONS

    def read_documents(self, location: str, tasks: Sequence[str] | None) -> pa.Table:
        """Returns the documents of the tasks."""
        rows = (
            (
                task,
                text_field(row, ["id"], position),
                text_field(row, ["title"], position, default=""),
                text_field(row, ["text"], position),
            )
            for task, position, row in _rows(location, "corpus", tasks)
        )
        return documents_table(rows, keep_empty=True)

    def read_questions(
        self, location: str, split: str, corpus: pa.Table, tasks: Sequence[str] | None, queries: str
    ) -> pa.Table:
        """Returns all queries of the tasks; documents with score zero are not gold."""
        qrels: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
        for task, position, row in _rows(location, "qrels", tasks):
            grade = row.get("score")
            if not isinstance(grade, int):
                raise UserError(f"{position}: field 'score' must be a whole number")
            if grade > 0:
                qrels[task, text_field(row, ["q_id"], position)][text_field(row, ["p_id"], position)] = grade
        rows = []
        for task, position, row in _rows(location, "query", tasks):
            query_id, query = text_field(row, ["id"], position), text_field(row, ["text"], position)
            instruction = INSTRUCTIONS.get(task, DEFAULT_INSTRUCTION)
            rows.append(question_row(task, query_id, query, instruction, qrels.pop((task, query_id), {})))
        if qrels:
            task, query_id = next(iter(qrels))
            raise UserError(
                f"r2med:{location}: qrels of {task} judge query {query_id!r}, which its queries do not have"
            )
        return pa.Table.from_pylist(rows, schema=schemas.QUESTIONS)

    def evaluation_splits(self, location: str) -> list[str]:
        """Returns ``test``: R2MED has no other questions."""
        return ["test"]


def _rows(location: str, config: str, tasks: Sequence[str] | None) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yields (task, position of the row, row) of ``corpus``, ``query`` or ``qrels``, from a folder or from the hub."""
    folder = Path(location)
    if folder.is_dir():
        folders = _task_folders(folder)
        for task in select_task_names(list(folders), f"r2med:{location}", tasks):
            for position, row in json_lines(folders[task] / f"{config}.jsonl"):
                yield task, position, row
        return
    if "/" in location or location.startswith("."):
        raise UserError(f"r2med:{location}: no such folder (on the hub it is the name of an owner, such as R2MED)")
    for task in select_task_names(list(INSTRUCTIONS), f"r2med:{location}", tasks):
        for position, row in hub_rows(f"{location}/{task}", config, config):
            yield task, position, row


def _task_folders(folder: Path) -> dict[str, Path]:
    if (folder / "corpus.jsonl").exists():
        return {folder.resolve().name: folder}
    task_folders = sorted(path.parent for path in folder.glob("*/corpus.jsonl"))
    if not task_folders:
        raise UserError(f"r2med:{folder}: no corpus.jsonl in it or in a folder of it")
    return {path.name: path for path in task_folders}
