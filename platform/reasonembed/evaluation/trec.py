"""Runs and qrels in TREC's file formats.

Ids may contain spaces. Fields separated by tabs are unambiguous; where a line has no tabs, the constant second field
(``Q0`` or ``0``) is used to find the ids.
"""

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
Qrels = dict[str, dict[str, int]]
"""Query id to document id to grade."""


def read_run(uri: str) -> Run:
    """Reads a run: lines ``query Q0 document rank score tag``.

    As with trec_eval, the scores decide the order and the ranks are ignored.

    Raises:
        UserError: the file is missing, empty or malformed, or ranks a document twice for a query.
    """
    run: Run = {}
    for location, line in _lines(uri, "run"):
        query_id, doc_id, score = _run_fields(line, location)
        documents = run.setdefault(query_id, {})
        if doc_id in documents:
            raise UserError(f"{location}: document {doc_id!r} is ranked twice for query {query_id!r}; remove one line")
        documents[doc_id] = score
    if not run:
        raise UserError(f"run {uri} is empty: it has no line with a ranked document")
    return run


def read_qrels(uri: str) -> Qrels:
    """Reads judgements: lines ``query 0 document grade``, or BEIR's ``query document grade`` after a line of headings.

    Raises:
        UserError: the file is missing, empty or malformed.
    """
    qrels: Qrels = {}
    for number, (location, line) in enumerate(_lines(uri, "qrels")):
        fields = _qrels_fields(line)
        try:
            query_id, doc_id, grade = fields[0], fields[1], int(fields[2])
        except (IndexError, ValueError):
            if number == 0:
                continue  # headings
            raise UserError(f"{location}: expected query id, 0, document id and a whole number as grade") from None
        qrels.setdefault(query_id, {})[doc_id] = grade
    if not qrels:
        raise UserError(f"qrels {uri} are empty: the file has no line with a judgement")
    return qrels


def questions_from_qrels(qrels: Mapping[str, Mapping[str, int]], task: str) -> pa.Table:
    """Returns ``schemas.QUESTIONS`` without texts; documents of a positive grade are gold documents.

    Args:
        qrels: of ``read_qrels``.
        task: the task of all questions.
    """
    rows = [
        question_row(task, query_id, "", "", {doc_id: grade for doc_id, grade in grades.items() if grade > 0})
        for query_id, grades in qrels.items()
    ]
    return pa.Table.from_pylist(rows, schema=schemas.QUESTIONS)


def ranking_from_run(run: Run, questions: pa.Table, uri: str) -> pa.Table:
    """Returns ``schemas.RANKING`` of the questions that a run contains, without excluded documents.

    Args:
        run: of ``read_run``; its query ids have the form ``task/query`` or are those of the questions.
        questions: ``schemas.QUESTIONS``.
        uri: of the run, for the error message.

    Raises:
        UserError: the run contains none of the questions.
    """
    rows: list[dict[str, Any]] = []
    for question in questions.select(["task", "query_id", "excluded_ids"]).to_pylist():
        task, query_id = question["task"], question["query_id"]
        scores = run.get(f"{task}/{query_id}", run.get(query_id, {}))
        excluded = set(question["excluded_ids"])
        # trec_eval's order: scores in single precision; of equal scores the greater document id comes first.
        order = sorted(
            ((np.float32(score), doc_id) for doc_id, score in scores.items() if doc_id not in excluded), reverse=True
        )
        rows += [
            {"task": task, "query_id": query_id, "doc_id": doc_id, "rank": rank, "score": score}
            for rank, (score, doc_id) in enumerate(order, start=1)
        ]
    if not rows:
        examples = ", ".join(repr(query_id) for query_id in list(run)[:3])
        raise UserError(f"run {uri} ranks none of the judged queries; it has query ids such as {examples}")
    return pa.Table.from_pylist(rows, schema=schemas.RANKING)


def format_run(ranking: pa.Table, tag: str) -> str:
    """Returns the lines of a run: fields separated by tabs, query ids of the form ``task/query``.

    Args:
        ranking: ``schemas.RANKING``.
        tag: the name of the system.
    """
    lines = [
        f"{row['task']}/{row['query_id']}\tQ0\t{row['doc_id']}\t{row['rank']}\t{row['score']:.9g}\t{tag}"
        for row in ranking.to_pylist()
    ]
    return "\n".join([*lines, ""])


def _lines(uri: str, kind: str) -> Iterator[tuple[str, str]]:
    """Yields (location for error messages, line) of every line that is not blank."""
    try:
        text = storage.read_bytes(uri).decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{kind} {uri} does not exist") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{kind} {uri} is not UTF-8 text ({error})") from None
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"{uri}, line {number}", line.rstrip("\r")


def _run_fields(line: str, location: str) -> tuple[str, str, float]:
    """Returns query id, document id and score of a line of a run."""
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
        raise UserError(f"{location}: expected query id, Q0, document id, rank, score (a number) and tag") from None


def _qrels_fields(line: str) -> Sequence[str]:
    """Returns query id, document id and grade of a line of judgements; of a malformed line something else."""
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
