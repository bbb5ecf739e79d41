"""TREC's files. Ids may hold spaces where fields are separated by tabs, and mostly even where they are not."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from reasonembed import schemas, storage
from reasonembed.corpora.tables import question_row
from reasonembed.errors import UserError

Run = dict[str, dict[str, float]]
"""Query id to document id to score."""


def read_run(uri: str) -> Run:
    """``query Q0 document rank score tag``. As with trec_eval the scores decide the order, and the ranks do not count.

    Raises:
        UserError: the file is missing, empty or malformed, or names a document twice for a query.
    """
    run: Run = {}
    for where, line in _lines(uri, "run"):
        query_id, doc_id, score = _run_fields(line, where)
        documents = run.setdefault(query_id, {})
        if doc_id in documents:
            raise UserError(f"{where}: document {doc_id!r} stands twice in the ranking of query {query_id!r}")
        documents[doc_id] = score
    if not run:
        raise UserError(f"run {uri} is empty: no line has a ranking")
    return run


def read_qrels(uri: str) -> dict[str, dict[str, int]]:
    """``query 0 document grade``, or BEIR's ``query document grade`` with a line of headings.

    Raises:
        UserError: the file is missing, empty or malformed.
    """
    qrels: dict[str, dict[str, int]] = {}
    for number, (where, line) in enumerate(_lines(uri, "qrels")):
        fields = _qrels_fields(line)
        try:
            query_id, doc_id, grade = fields[0], fields[1], int(fields[2])
        except (IndexError, ValueError):
            if number == 0:
                continue  # headings
            raise UserError(f"{where}: query id, 0, document id and a whole number are expected") from None
        qrels.setdefault(query_id, {})[doc_id] = grade
    if not qrels:
        raise UserError(f"qrels {uri} are empty: no line has a judgement")
    return qrels


def questions_of(qrels: Mapping[str, Mapping[str, int]], task: str) -> pa.Table:
    """``schemas.QUESTIONS`` without texts."""
    rows = [
        question_row(task, query_id, "", "", {doc_id: grade for doc_id, grade in judged.items() if grade > 0})
        for query_id, judged in qrels.items()
    ]
    return pa.Table.from_pylist(rows, schema=schemas.QUESTIONS)


def ranking_of(run: Run, questions: pa.Table, uri: str) -> pa.Table:
    """``schemas.RANKING`` of the questions in a run, whose query ids may be ours (``task/query``) or bare.

    Excluded documents leave it. Questions that the run does not have are left out.

    Raises:
        UserError: the run has none of the questions.
    """
    rows: list[dict[str, Any]] = []
    for question in questions.select(["task", "query_id", "excluded_ids"]).to_pylist():
        task, query_id = question["task"], question["query_id"]
        documents = run.get(f"{task}/{query_id}", run.get(query_id, {}))
        excluded = set(question["excluded_ids"])
        # trec_eval's order: scores are single-precision numbers, of equal ones the greater document id comes first.
        kept = sorted(
            ((np.float32(score), doc_id) for doc_id, score in documents.items() if doc_id not in excluded), reverse=True
        )
        rows += [
            {"task": task, "query_id": query_id, "doc_id": doc_id, "rank": rank, "score": score}
            for rank, (score, doc_id) in enumerate(kept, start=1)
        ]
    if not rows:
        some = ", ".join(repr(query_id) for query_id in list(run)[:3])
        raise UserError(f"run {uri} ranks none of the queries that are judged; its query ids are like {some}")
    return pa.Table.from_pylist(rows, schema=schemas.RANKING)


def run_lines(ranking: pa.Table, tag: str) -> str:
    """``schemas.RANKING`` as a run; fields are separated by tabs, the query id is ``task/query``."""
    lines = [
        f"{row['task']}/{row['query_id']}\tQ0\t{row['doc_id']}\t{row['rank']}\t{row['score']:.9g}\t{tag}"
        for row in ranking.to_pylist()
    ]
    return "\n".join([*lines, ""])


def _lines(uri: str, kind: str) -> Iterator[tuple[str, str]]:
    try:
        text = storage.read_bytes(uri).decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{kind} {uri} does not exist") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{kind} {uri} is not UTF-8 text ({error})") from None
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"{uri}, line {number}", line.rstrip("\r")


def _run_fields(line: str, where: str) -> tuple[str, str, float]:
    fields: Sequence[str] = line.split("\t")
    if len(fields) != 6:
        words = line.split(" ") if "  " not in line and "\t" not in line else line.split()
        middle = words.index("Q0") if "Q0" in words else 1
        fields = [" ".join(words[:middle]), "Q0", " ".join(words[middle + 1 : -3]), *words[-3:]]
    try:
        if not (fields[0] and fields[2]):
            raise ValueError
        score = float(fields[4])
        if not math.isfinite(score):
            raise ValueError
        return fields[0], fields[2], score
    except (IndexError, ValueError):
        raise UserError(f"{where}: query id, Q0, document id, rank, score (a number) and tag are expected") from None


def _qrels_fields(line: str) -> Sequence[str]:
    fields = line.split("\t")
    if len(fields) == 4:
        return [fields[0], *fields[2:]]
    if len(fields) == 3:
        return fields
    words = line.split()
    middle = next((n for n, word in enumerate(words[1:-2], start=1) if word in ("0", "Q0")), None)
    if middle is None:
        return words
    return [" ".join(words[:middle]), " ".join(words[middle + 1 : -1]), words[-1]]
