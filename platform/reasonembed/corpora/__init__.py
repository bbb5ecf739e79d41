"""Readers: every source of documents and questions becomes the same two tables (``schemas.CORPUS``, ``QUESTIONS``).

A source is named by one string: ``pydocs``, ``bright:<folder or hub id>``, ``beir:<folder>`` or ``files:<folder>``.
"""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from reasonembed import schemas
from reasonembed.corpora import beir, bright, files, pydocs
from reasonembed.corpora.tables import check_corpus, check_questions
from reasonembed.errors import UserError

FORMS = "pydocs, bright:<folder or hub id>, beir:<folder> or files:<folder>"


def parse_source(source: str) -> tuple[str, str]:
    """Split ``kind:place``; ``pydocs`` has no place.

    Raises:
        UserError: the kind is not one of ``FORMS``, or its place is missing.
    """
    kind, _, place = source.partition(":")
    if kind not in ("pydocs", "bright", "beir", "files") or bool(place) == (kind == "pydocs"):
        raise UserError(f"source {source!r} is not known; write {FORMS}")
    return kind, place


def read_documents(source: str, tasks: Sequence[str] | None = None) -> pa.Table:
    """All documents of a source, as ``schemas.DOCUMENTS``: with those whose text cannot be used, and why.

    Raises:
        UserError: the source is missing, malformed, empty, names a document twice, or lacks a task that was asked for.
    """
    kind, place = parse_source(source)
    if kind == "pydocs":
        table = pydocs.read_corpus()
    else:
        table = {"bright": bright, "beir": beir, "files": files}[kind].read_corpus(place, tasks)
    return check_corpus(table, source, tasks)


def read_corpus(source: str, tasks: Sequence[str] | None = None) -> pa.Table:
    """The usable documents of a source, as ``schemas.CORPUS``; see ``read_documents``."""
    return usable_documents(read_documents(source, tasks))


def usable_documents(documents: pa.Table) -> pa.Table:
    return documents.filter(pc.is_null(documents["reject_reason"])).select(schemas.CORPUS.names)


def read_questions(source: str, split: str, corpus: pa.Table, tasks: Sequence[str] | None = None) -> pa.Table:
    """The questions of a benchmark, as ``schemas.QUESTIONS``, checked against its corpus.

    Raises:
        UserError: the source carries no questions, is malformed, or judges a document that the corpus does not have.
    """
    kind, place = parse_source(source)
    if kind == "files":
        raise UserError(f"source {source!r} has documents only; evaluation needs questions: {FORMS}")
    if kind == "pydocs":
        table = pydocs.read_questions(split, corpus)
    elif kind == "bright":
        table = bright.read_questions(place, tasks)
    else:
        table = beir.read_questions(place, split)
    return check_questions(table, corpus, source, tasks)


def evaluation_splits(source: str) -> list[str]:
    """The splits of a source whose judged documents training must keep away from."""
    kind, place = parse_source(source)
    if kind == "beir":
        return beir.evaluation_splits(place)
    return {"pydocs": ["dev", "test"], "bright": ["test"], "files": []}[kind]
