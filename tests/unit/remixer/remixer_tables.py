"""Small tables for the tests of ReMixer's stages."""

import pyarrow as pa

from reasonembed import schemas


def corpus_table(*rows: tuple[str, str, str]) -> pa.Table:
    """Returns ``schemas.CORPUS`` of (task, document id, text) rows."""
    columns = [{"task": task, "doc_id": doc_id, "title": "", "text": text} for task, doc_id, text in rows]
    return pa.Table.from_pylist(columns, schema=schemas.CORPUS)


def questions_table(task: str, gold: list[str], excluded: tuple[str, ...] = ()) -> pa.Table:
    """Returns ``schemas.QUESTIONS`` with one question and its judged documents."""
    row = {
        "task": task,
        "query_id": "q",
        "query": "?",
        "instruction": "",
        "gold_ids": gold,
        "gold_grades": [1] * len(gold),
        "excluded_ids": list(excluded),
    }
    return pa.Table.from_pylist([row], schema=schemas.QUESTIONS)


def queries_table(*texts: str | None, task: str = "a") -> pa.Table:
    """Returns ``schemas.QUERIES`` with the given texts; a row without a text was rejected."""
    rows = [
        {
            "query_id": str(n),
            "task": task,
            "instruction": "",
            "query": text,
            "source_doc_id": str(n),
            "generator": "g",
            "reject_reason": None if text else "no answer",
        }
        for n, text in enumerate(texts)
    ]
    return pa.Table.from_pylist(rows, schema=schemas.QUERIES)
