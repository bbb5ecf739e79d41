"""BRIGHT's layout, from a folder or from the hub.

A folder holds ``documents.jsonl`` (id, content) and ``examples.jsonl`` (id, query, excluded_ids, gold_ids) for one
task, named after the folder, or one such folder per task. On the hub (``xlangai/BRIGHT``) they are the configs
``documents`` and ``examples`` with one split per task. The long setting has ``long_documents`` and ``gold_ids_long`` in
their places, for the tasks that have them; rewritten queries lie in configs of their own (``gpt4_reason``, say), which
give the query and otherwise look like ``examples``.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from reasonembed import schemas
from reasonembed.corpora.hub import hub_rows, split_names
from reasonembed.corpora.tables import chosen_tasks, corpus_table, ids_field, json_lines, question_row, text_field
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


# The groups whose averages are reported beside that of all tasks.
GROUPS = {
    "StackExchange": tuple(_POSTS),
    "coding": ("leetcode", "pony"),
    "theorem": ("aops", "theoremqa_questions", "theoremqa_theorems"),
}

ORIGINAL = "original"
"""The questions as people asked them; other names are of rewritten ones."""


def read_corpus(place: str, tasks: Sequence[str] | None, long: bool = False) -> pa.Table:
    rows = (
        (task, text_field(row, ["id"], where), "", text_field(row, ["content"], where))
        for task, where, row in _rows(place, _documents(long), tasks, long)
    )
    return corpus_table(rows, benchmark=True)


def read_questions(place: str, tasks: Sequence[str] | None, queries: str = ORIGINAL, long: bool = False) -> pa.Table:
    gold_field = "gold_ids_long" if long else "gold_ids"
    rewritten = {}
    if queries != ORIGINAL:
        rewritten = {
            (task, text_field(row, ["id"], where)): text_field(row, ["query"], where)
            for task, where, row in _rows(place, queries, tasks, long)
        }
    rows = []
    for task, where, row in _rows(place, "examples", tasks, long):
        gold = dict.fromkeys(ids_field(row, gold_field, where), 1)
        excluded = [doc_id for doc_id in ids_field(row, "excluded_ids", where) if doc_id != NO_EXCLUSION]
        query_id, query = text_field(row, ["id"], where), text_field(row, ["query"], where)
        if queries != ORIGINAL:
            if (task, query_id) not in rewritten:
                raise UserError(f"{where}: query {query_id!r} has no rewritten query in {queries!r}")
            query = rewritten[task, query_id]
        instruction = INSTRUCTIONS.get(task, DEFAULT_INSTRUCTION)
        rows.append(question_row(task, query_id, query, instruction, gold, excluded))
    return pa.Table.from_pylist(rows, schema=schemas.QUESTIONS)


def _documents(long: bool) -> str:
    return "long_documents" if long else "documents"


def _rows(
    place: str, config: str, tasks: Sequence[str] | None, long: bool
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(task, where, row) of one of the configs, whatever form the data set comes in."""
    folder = Path(place)
    if folder.is_dir():
        files = _task_files(folder, config, _documents(long))
        for task in chosen_tasks(list(files), f"bright:{place}", tasks):
            for number, row in json_lines(files[task]):
                yield task, f"{files[task]}, line {number}", row
        return
    if place.count("/") != 1 or place.startswith((".", "/")):
        raise UserError(f"bright:{place}: no such folder (a hub id looks like owner/name)")
    for task in chosen_tasks(split_names(place, _documents(long)), f"bright:{place}", tasks):
        for where, row in hub_rows(place, config, task):
            yield task, where, row


def _task_files(folder: Path, config: str, documents: str) -> dict[str, Path]:
    name = f"{documents}.jsonl"
    if (folder / name).exists():
        # The test collections are called bright_pony and the like; the task inside is pony.
        return {folder.resolve().name.removeprefix("bright_"): folder / f"{config}.jsonl"}
    found = sorted(path.parent for path in folder.glob(f"*/{name}"))
    if not found:
        raise UserError(f"bright:{folder}: no {name} in it or in a folder of it")
    return {path.name: path / f"{config}.jsonl" for path in found}
