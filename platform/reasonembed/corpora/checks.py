"""Checks of the tables of every reader, and the selection of tasks."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from reasonembed.errors import UserError


def check_corpus(table: pa.Table, source: str, tasks: Sequence[str] | None) -> pa.Table:
    """Returns the documents of the tasks.

    Args:
        table: ``schemas.DOCUMENTS``.
        source: for errors.
        tasks: the tasks to select; all when left out.

    Raises:
        UserError: a task is missing, no document is left, or a document id occurs twice in a task.
    """
    table = _select_tasks(table, source, tasks)
    if table.num_rows == 0:
        raise UserError(f"corpus {source} is empty: it has no documents")
    counts = pc.value_counts(pc.binary_join_element_wise(table["task"], table["doc_id"], "\t"))
    if len(counts) < table.num_rows:
        task, doc_id = counts.filter(pc.greater(counts.field("counts"), 1))[0]["values"].as_py().split("\t", 1)
        raise UserError(f"corpus {source}: document id {doc_id!r} occurs more than once in task {task!r}")
    return table


def check_questions(table: pa.Table, corpus: pa.Table, source: str, tasks: Sequence[str] | None) -> pa.Table:
    """Returns the questions of the tasks.

    Args:
        table: ``schemas.QUESTIONS``.
        corpus: ``schemas.CORPUS`` of the same source.
        source: for errors.
        tasks: the tasks to select; all when left out.

    Raises:
        UserError: a task is missing, no question is left, a query id occurs twice in a task, or a question has no gold
            document or one that is not in the corpus.
    """
    table = _select_tasks(table, source, tasks)
    if table.num_rows == 0:
        raise UserError(f"benchmark {source} has no questions")
    documents = set(zip(corpus["task"].to_pylist(), corpus["doc_id"].to_pylist(), strict=True))
    questions: set[tuple[str, str]] = set()
    for row in table.select(["task", "query_id", "gold_ids"]).to_pylist():
        task, query_id = row["task"], row["query_id"]
        if (task, query_id) in questions:
            raise UserError(f"benchmark {source}: query id {query_id!r} occurs more than once in task {task!r}")
        questions.add((task, query_id))
        if not row["gold_ids"]:
            raise UserError(f"benchmark {source}: query {query_id!r} of task {task!r} has no gold document")
        for doc_id in row["gold_ids"]:
            if (task, doc_id) not in documents:
                raise UserError(
                    f"benchmark {source}: query {query_id!r} names gold document {doc_id!r}, "
                    f"which the corpus of task {task!r} does not have"
                )
    return table


def _select_tasks(table: pa.Table, source: str, tasks: Sequence[str] | None) -> pa.Table:
    names = select_task_names(pc.unique(table["task"]).to_pylist(), source, tasks)
    return table.filter(pc.is_in(table["task"], pa.array(names, pa.string())))


def select_task_names(names: Sequence[str], source: str, tasks: Sequence[str] | None) -> list[str]:
    """Returns the selected task names, in the order of the source.

    Args:
        names: of all tasks of the source.
        source: for errors.
        tasks: the tasks to select; all when left out.

    Raises:
        UserError: the source does not have one of the tasks.
    """
    if missing := sorted(set(tasks or ()) - set(names)):
        raise UserError(f"{source} has no task {missing[0]!r}; its tasks: {', '.join(sorted(names)) or 'none'}")
    return [name for name in names if tasks is None or name in tasks]
