"""BRIGHT's layout, from a folder or from the hub.

A folder holds ``documents.jsonl`` (id, content) and ``examples.jsonl`` (id, query, excluded_ids, gold_ids) for one
task, named after the folder, or one such folder per task. On the hub (``xlangai/BRIGHT``) they are the configs
``documents`` and ``examples`` with one split per task.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from reasonembed import schemas
from reasonembed.corpora.tables import corpus_table, json_lines, question_row, text_field
from reasonembed.errors import UserError

NO_EXCLUSION = "N/A"  # what the data set writes for "no excluded id"

# Query instructions of the protocol (METHOD: BRIGHT, rule 2), final period included.
_POSTS = {
    "biology": "a Biology",
    "earth_science": "an Earth Science",
    "economics": "an Economics",
    "psychology": "a Psychology",
    "robotics": "a Robotics",
    "stackoverflow": "a Stack Overflow",
    "sustainable_living": "a Sustainable Living",
}
INSTRUCTIONS = {
    task: f"Given {subject} post, retrieve relevant passages that help answer the post."
    for task, subject in _POSTS.items()
} | {
    "leetcode": "Given a Coding problem, retrieve relevant examples that help answer the problem.",
    "pony": "Given a Pony question, retrieve relevant passages that help answer the question.",
    "aops": "Given a Math problem, retrieve relevant examples that help answer the problem.",
    "theoremqa_questions": "Given a Math problem, retrieve relevant examples that help answer the problem.",
    "theoremqa_theorems": "Given a Math problem, retrieve relevant theorems that help answer the problem.",
}
DEFAULT_INSTRUCTION = "Given a question, retrieve relevant passages that help answer the question."


def read_corpus(place: str, tasks: Sequence[str] | None) -> pa.Table:
    rows = (
        (task, text_field(row, ["id"], where), "", text_field(row, ["content"], where))
        for task, where, row in _rows(place, "documents", tasks)
    )
    return corpus_table(rows, benchmark=True)


def read_questions(place: str, tasks: Sequence[str] | None) -> pa.Table:
    rows = []
    for task, where, row in _rows(place, "examples", tasks):
        gold = dict.fromkeys(_ids(row, "gold_ids", where), 1)
        excluded = [doc_id for doc_id in _ids(row, "excluded_ids", where) if doc_id != NO_EXCLUSION]
        instruction = INSTRUCTIONS.get(task, DEFAULT_INSTRUCTION)
        query = text_field(row, ["query"], where)
        rows.append(question_row(task, text_field(row, ["id"], where), query, instruction, gold, excluded))
    return pa.Table.from_pylist(rows, schema=schemas.QUESTIONS)


def _ids(row: dict[str, Any], name: str, where: str) -> list[str]:
    values = row.get(name, [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise UserError(f"{where}: field {name!r} must be a list of document ids")
    return values


def _rows(place: str, config: str, tasks: Sequence[str] | None) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(task, where, row) of one of the configs, whatever form the data set comes in."""
    folder = Path(place)
    if folder.is_dir():
        for task, path in _task_files(folder, config):
            for number, row in json_lines(path):
                yield task, f"{path}, line {number}", row
        return
    if place.count("/") != 1 or place.startswith((".", "/")):
        raise UserError(f"bright:{place}: no such folder (a hub id looks like owner/name)")
    yield from _hub_rows(place, config, tasks)


def _task_files(folder: Path, config: str) -> list[tuple[str, Path]]:
    if (folder / "documents.jsonl").exists():
        # The test collections are called bright_pony and the like; the task inside is pony.
        return [(folder.resolve().name.removeprefix("bright_"), folder / f"{config}.jsonl")]
    found = sorted(path.parent for path in folder.glob("*/documents.jsonl"))
    if not found:
        raise UserError(f"bright:{folder}: no documents.jsonl in it or in a folder of it")
    return [(path.name, path / f"{config}.jsonl") for path in found]


def _hub_rows(hub_id: str, config: str, tasks: Sequence[str] | None) -> Iterator[tuple[str, str, dict[str, Any]]]:
    import datasets

    try:
        splits = datasets.get_dataset_split_names(hub_id, config)
        for task in splits:
            if tasks is None or task in tasks:
                for number, row in enumerate(datasets.load_dataset(hub_id, config, split=task), start=1):
                    yield task, f"{hub_id} {config}/{task}, row {number}", row
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"bright:{hub_id}: neither a folder here nor a data set that the hub gives ({reason})"
        ) from None
