"""BRIGHT's layout, from a folder or from the hub.

A folder has ``documents.jsonl`` (id, content) and ``examples.jsonl`` (id, query, excluded_ids, gold_ids) for one task,
named after the folder, or one such folder per task. On the hub (``xlangai/BRIGHT``) these are the configs ``documents``
and ``examples`` with one split per task. The long setting uses ``long_documents`` and ``gold_ids_long`` instead, for
the tasks that have them. Rewritten queries are in configs of their own (such as ``gpt4_reason``), which have the
columns of ``examples`` with another query.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from reasonembed import schemas
from reasonembed.corpora.checks import select_task_names
from reasonembed.corpora.hub import hub_rows, split_names
from reasonembed.corpora.reader import ORIGINAL, Reader
from reasonembed.corpora.tables import documents_table, ids_field, json_lines, question_row, text_field
from reasonembed.errors import UserError

NO_EXCLUSION = "N/A"
"""The data set's value of ``excluded_ids`` for "no excluded document"."""

# Query instructions of BRIGHT's evaluation protocol, with the final period.
_STACK_EXCHANGE_SITES = {
    "biology": "a Biology",
    "earth_science": "an Earth Science",
    "economics": "an Economics",
    "psychology": "a Psychology",
    "robotics": "a Robotics",
    "stackoverflow": "a Stack Overflow",
    "sustainable_living": "a Sustainable Living",
}
INSTRUCTIONS = {
    task: f"Given {site} post, retrieve relevant passages that help answer the post."
    for task, site in _STACK_EXCHANGE_SITES.items()
} | {
    "leetcode": "Given a Coding problem, retrieve relevant examples that help answer the problem.",
    "pony": "Given a Pony question, retrieve relevant passages that help answer the question.",
    "aops": "Given a Math problem, retrieve relevant examples that help answer the problem.",
    "theoremqa_questions": "Given a Math problem, retrieve relevant examples that help answer the problem.",
    "theoremqa_theorems": "Given a Math problem, retrieve relevant theorems that help answer the problem.",
}
"""The query instruction of each of BRIGHT's 12 tasks."""
DEFAULT_INSTRUCTION = "Given a question, retrieve relevant passages that help answer the question."

GROUPS = {
    "StackExchange": tuple(_STACK_EXCHANGE_SITES),
    "coding": ("leetcode", "pony"),
    "theorem": ("aops", "theoremqa_questions", "theoremqa_theorems"),
}
"""The groups of tasks in BRIGHT's leaderboard."""


class BrightReader(Reader):
    """Reads BRIGHT's short or long documents.

    Args:
        long: read the long documents and their gold ids.
    """

    location_form = "<folder or hub id>"
    instructions = INSTRUCTIONS
    task_groups = GROUPS
    has_rewritten_queries = True

    def __init__(self, long: bool = False) -> None:
        self._documents = "long_documents" if long else "documents"
        self._gold_field = "gold_ids_long" if long else "gold_ids"

    def read_documents(self, location: str, tasks: Sequence[str] | None) -> pa.Table:
        """Returns the documents of the tasks; they have no titles."""
        rows = (
            (task, text_field(row, ["id"], position), "", text_field(row, ["content"], position))
            for task, position, row in self._rows(location, self._documents, tasks)
        )
        return documents_table(rows, keep_empty=True)

    def read_questions(
        self, location: str, split: str, corpus: pa.Table, tasks: Sequence[str] | None, queries: str
    ) -> pa.Table:
        """Returns the questions of the tasks; every gold document has grade 1."""
        rewritten = {}
        if queries != ORIGINAL:
            rewritten = {
                (task, text_field(row, ["id"], position)): text_field(row, ["query"], position)
                for task, position, row in self._rows(location, queries, tasks)
            }
        rows = []
        for task, position, row in self._rows(location, "examples", tasks):
            query_id, query = text_field(row, ["id"], position), text_field(row, ["query"], position)
            if queries != ORIGINAL:
                if (task, query_id) not in rewritten:
                    raise UserError(f"{position}: query {query_id!r} has no rewritten query in {queries!r}")
                query = rewritten[task, query_id]
            gold = dict.fromkeys(ids_field(row, self._gold_field, position), 1)
            excluded = [doc_id for doc_id in ids_field(row, "excluded_ids", position) if doc_id != NO_EXCLUSION]
            instruction = INSTRUCTIONS.get(task, DEFAULT_INSTRUCTION)
            rows.append(question_row(task, query_id, query, instruction, gold, excluded))
        return pa.Table.from_pylist(rows, schema=schemas.QUESTIONS)

    def evaluation_splits(self, location: str) -> list[str]:
        """Returns ``test``: BRIGHT has no other questions."""
        return ["test"]

    def _rows(
        self, location: str, config: str, tasks: Sequence[str] | None
    ) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yields (task, position of the row, row) of one of the configs, from a folder or from the hub."""
        folder = Path(location)
        if folder.is_dir():
            files = self._task_files(folder, config)
            for task in select_task_names(list(files), f"bright:{location}", tasks):
                for position, row in json_lines(files[task]):
                    yield task, position, row
            return
        if location.count("/") != 1 or location.startswith((".", "/")):
            raise UserError(f"bright:{location}: no such folder (a hub id looks like owner/name)")
        for task in select_task_names(split_names(location, self._documents), f"bright:{location}", tasks):
            for position, row in hub_rows(location, config, task):
                yield task, position, row

    def _task_files(self, folder: Path, config: str) -> dict[str, Path]:
        """Returns the file of a config by task."""
        documents = f"{self._documents}.jsonl"
        if (folder / documents).exists():
            # Folders of one task may be called bright_pony; the task is pony.
            return {folder.resolve().name.removeprefix("bright_"): folder / f"{config}.jsonl"}
        task_folders = sorted(path.parent for path in folder.glob(f"*/{documents}"))
        if not task_folders:
            raise UserError(f"bright:{folder}: no {documents} in it or in a folder of it")
        return {path.name: path / f"{config}.jsonl" for path in task_folders}
