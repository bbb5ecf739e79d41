"""BEIR's layout: ``corpus.jsonl`` (_id, title, text), ``queries.jsonl`` (_id, text), ``qrels/<split>.tsv``."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from reasonembed import schemas
from reasonembed.corpora.tables import corpus_table, json_lines, question_row, text_field
from reasonembed.errors import UserError


def read_corpus(place: str, tasks: Sequence[str] | None) -> pa.Table:
    folder = _folder(place)
    task = folder.resolve().name
    rows = (
        (task, text_field(row, ["_id"], where), text_field(row, ["title"], where, ""), text_field(row, ["text"], where))
        for where, row in (
            (f"{folder / 'corpus.jsonl'}, line {n}", row) for n, row in json_lines(folder / "corpus.jsonl")
        )
    )
    return corpus_table(rows, benchmark=True)


def read_questions(place: str, split: str) -> pa.Table:
    """Only the queries that the split judges; judgements of zero are not gold."""
    folder = _folder(place)
    task = folder.resolve().name
    gold = _judgements(folder / "qrels" / f"{split}.tsv")
    rows = []
    for number, row in json_lines(folder / "queries.jsonl"):
        where = f"{folder / 'queries.jsonl'}, line {number}"
        query_id = text_field(row, ["_id"], where)
        if query_id in gold:
            rows.append(question_row(task, query_id, text_field(row, ["text"], where), "", gold.pop(query_id)))
    if gold:
        raise UserError(
            f"{folder}/qrels/{split}.tsv judges query {next(iter(gold))!r}, which queries.jsonl does not have"
        )
    return pa.Table.from_pylist(rows, schema=schemas.QUESTIONS)


def evaluation_splits(place: str) -> list[str]:
    return [split for split in ("dev", "test") if (_folder(place) / "qrels" / f"{split}.tsv").exists()]


def _judgements(path: Path) -> dict[str, dict[str, int]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        splits = ", ".join(sorted(p.stem for p in path.parent.glob("*.tsv"))) or "none"
        raise UserError(f"{path} does not exist; splits there: {splits}") from None
    gold: dict[str, dict[str, int]] = defaultdict(dict)
    for number, line in enumerate(lines[1:], start=2):  # the first line is the header
        fields = line.split("\t")
        try:
            query_id, doc_id, grade = fields[0], fields[1], int(fields[2])
        except (IndexError, ValueError):
            raise UserError(f"{path}, line {number}: query id, document id and a whole number are expected") from None
        if grade > 0:
            gold[query_id][doc_id] = grade
    return dict(gold)


def _folder(place: str) -> Path:
    folder = Path(place)
    if not folder.is_dir():
        raise UserError(f"beir:{place}: no such folder")
    return folder
