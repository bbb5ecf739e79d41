"""R2MED's layout, from a folder or from the hub.

A folder holds ``corpus.jsonl`` (id, text), ``query.jsonl`` (id, text) and ``qrels.jsonl`` (q_id, p_id, score) for one
task, named after the folder, or one such folder per task. On the hub every task is a data set of its own
(``R2MED/Biology``, say) with the configs ``corpus``, ``query`` and ``qrels``, each with one split of its own name.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from reasonembed import schemas
from reasonembed.corpora.hub import hub_rows
from reasonembed.corpora.tables import chosen_tasks, corpus_table, json_lines, question_row, text_field
from reasonembed.errors import UserError

_POST = "Given a {} post, retrieve relevant passages that help answer the post."
_EXAM = "Given a Medical Exam, retrieve relevant passages that help answer the exam."
_CASE = "Given a Clinical Case, retrieve similar cases that help diagnose the case."
# Of the protocol (METHOD: R2MED), final period included.
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
DEFAULT_INSTRUCTION = _POST.format("Medical Science")
CONFIGS = ("corpus", "query", "qrels")


def read_corpus(place: str, tasks: Sequence[str] | None) -> pa.Table:
    rows = (
        (task, text_field(row, ["id"], where), text_field(row, ["title"], where, ""), text_field(row, ["text"], where))
        for task, where, row in _rows(place, "corpus", tasks)
    )
    return corpus_table(rows, benchmark=True)


def read_questions(place: str, tasks: Sequence[str] | None) -> pa.Table:
    """All queries; judgements of zero are not gold."""
    gold: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for task, where, row in _rows(place, "qrels", tasks):
        grade = row.get("score")
        if not isinstance(grade, int):
            raise UserError(f"{where}: field 'score' must be a whole number")
        if grade > 0:
            gold[task, text_field(row, ["q_id"], where)][text_field(row, ["p_id"], where)] = grade
    rows = []
    for task, where, row in _rows(place, "query", tasks):
        query_id = text_field(row, ["id"], where)
        instruction = INSTRUCTIONS.get(task, DEFAULT_INSTRUCTION)
        rows.append(
            question_row(task, query_id, text_field(row, ["text"], where), instruction, gold.pop((task, query_id), {}))
        )
    if gold:
        task, query_id = next(iter(gold))
        raise UserError(f"r2med:{place}: qrels of {task} judge query {query_id!r}, which its queries do not have")
    return pa.Table.from_pylist(rows, schema=schemas.QUESTIONS)


def _rows(place: str, config: str, tasks: Sequence[str] | None) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(task, where, row) of one of ``CONFIGS``."""
    folder = Path(place)
    if folder.is_dir():
        folders = _task_folders(folder)
        for task in chosen_tasks(list(folders), f"r2med:{place}", tasks):
            path = folders[task] / f"{config}.jsonl"
            for number, row in json_lines(path):
                yield task, f"{path}, line {number}", row
        return
    if "/" in place or place.startswith("."):
        raise UserError(f"r2med:{place}: no such folder (on the hub it is an owner's name, R2MED)")
    for task in chosen_tasks(list(INSTRUCTIONS), f"r2med:{place}", tasks):
        for where, row in hub_rows(f"{place}/{task}", config, config):
            yield task, where, row


def _task_folders(folder: Path) -> dict[str, Path]:
    if (folder / "corpus.jsonl").exists():
        return {folder.resolve().name: folder}
    found = sorted(path.parent for path in folder.glob("*/corpus.jsonl"))
    if not found:
        raise UserError(f"r2med:{folder}: no corpus.jsonl in it or in a folder of it")
    return {path.name: path for path in found}
