"""Readers: every source of documents and questions becomes the same two tables (``schemas.CORPUS``, ``QUESTIONS``).

A source is named by one string, ``FORMS``; a folder may be one on S3.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.compute as pc

from reasonembed import schemas, storage
from reasonembed.corpora import beir, bright, files, pydocs, r2med
from reasonembed.corpora.bright import ORIGINAL
from reasonembed.corpora.tables import check_corpus, check_questions
from reasonembed.errors import UserError

FORMS = (
    "pydocs, bright:<folder or hub id>, bright-long:<folder or hub id>, r2med:<folder or hub owner>, beir:<folder> or "
    "files:<folder>"
)
KINDS = ("pydocs", "bright", "bright-long", "r2med", "beir", "files")


def parse_source(source: str) -> tuple[str, str]:
    """Split ``kind:place``; ``pydocs`` has no place.

    Raises:
        UserError: the kind is not one of ``FORMS``, or its place is missing.
    """
    kind, _, place = source.partition(":")
    if kind not in KINDS or bool(place) == (kind == "pydocs"):
        raise UserError(f"source {source!r} is not known; write {FORMS}")
    return kind, place


def read_documents(source: str, tasks: Sequence[str] | None = None) -> pa.Table:
    """All documents of a source, as ``schemas.DOCUMENTS``: with those whose text cannot be used, and why.

    Raises:
        UserError: the source is missing, malformed, empty, names a document twice, or lacks a task that was asked for.
    """
    kind, place = parse_source(source)
    with _here(place) as folder:
        if kind == "pydocs":
            table = pydocs.read_corpus()
        elif kind in ("bright", "bright-long"):
            table = bright.read_corpus(folder, tasks, long=kind == "bright-long")
        else:
            table = {"beir": beir, "files": files, "r2med": r2med}[kind].read_corpus(folder, tasks)
    return check_corpus(table, source, tasks)


def read_corpus(source: str, tasks: Sequence[str] | None = None) -> pa.Table:
    """The usable documents of a source, as ``schemas.CORPUS``; see ``read_documents``."""
    return usable_documents(read_documents(source, tasks))


def usable_documents(documents: pa.Table) -> pa.Table:
    return documents.filter(pc.is_null(documents["reject_reason"])).select(schemas.CORPUS.names)


def read_questions(
    source: str, split: str, corpus: pa.Table, tasks: Sequence[str] | None = None, queries: str = ORIGINAL
) -> pa.Table:
    """The questions of a benchmark, as ``schemas.QUESTIONS``, checked against its corpus.

    Args:
        source: as for the corpus.
        split: of ``pydocs`` and BEIR.
        corpus: its documents.
        tasks: those to take.
        queries: ``original``, or a set of rewritten queries that the benchmark carries (BRIGHT's ``gpt4_reason``, say).

    Raises:
        UserError: the source carries no questions, is malformed, or judges a document that the corpus does not have.
    """
    kind, place = parse_source(source)
    if kind == "files":
        raise UserError(f"source {source!r} has documents only; evaluation needs questions: {FORMS}")
    if queries != ORIGINAL and kind not in ("bright", "bright-long"):
        raise UserError(f"evaluate.queries={queries}: only BRIGHT carries rewritten queries; {source} has none")
    with _here(place) as folder:
        if kind == "pydocs":
            table = pydocs.read_questions(split, corpus)
        elif kind in ("bright", "bright-long"):
            table = bright.read_questions(folder, tasks, queries, long=kind == "bright-long")
        elif kind == "r2med":
            table = r2med.read_questions(folder, tasks)
        else:
            table = beir.read_questions(folder, split)
    return check_questions(table, corpus, source, tasks)


def evaluation_splits(source: str) -> list[str]:
    """The splits of a source whose judged documents training must keep away from."""
    kind, place = parse_source(source)
    if kind == "beir":
        with _here(place) as folder:
            return beir.evaluation_splits(folder)
    return {"pydocs": ["dev", "test"], "files": []}.get(kind, ["test"])


@contextmanager
def _here(place: str) -> Iterator[str]:
    """The place itself, or a copy of what is there on S3, under the same last name."""
    if not storage.is_s3(place):
        yield place
        return
    with storage.local_copy(place) as folder:
        try:
            yield str(folder)
        except UserError as error:
            raise UserError(str(error).replace(str(folder), place)) from None
