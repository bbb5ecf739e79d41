"""Reading of corpora and benchmarks: every format becomes the same tables, ``schemas.DOCUMENTS`` and ``QUESTIONS``.

A source is a string ``<format>:<location>``; the formats are in ``registry.py``. A folder may be on S3.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.compute as pc

from reasonembed import schemas, storage
from reasonembed.corpora.checks import check_corpus, check_questions
from reasonembed.corpora.reader import ORIGINAL, Reader
from reasonembed.corpora.registry import READERS, parse_source
from reasonembed.errors import UserError

__all__ = [
    "ORIGINAL",
    "Reader",
    "evaluation_splits",
    "parse_source",
    "read_corpus",
    "read_documents",
    "read_questions",
    "retrieval_instructions",
    "task_groups",
    "usable_documents",
]


def read_documents(source: str, tasks: Sequence[str] | None = None) -> pa.Table:
    """Returns all documents of a source as ``schemas.DOCUMENTS``, with a reason for each that cannot be used.

    Args:
        source: as in ``corpus.source``.
        tasks: the tasks to read; all when left out.

    Raises:
        UserError: the source is missing, malformed or empty, has a document id twice, or lacks one of the tasks.
    """
    with _open_source(source) as (reader, location):
        table = reader.read_documents(location, tasks)
    return check_corpus(table, source, tasks)


def read_corpus(source: str, tasks: Sequence[str] | None = None) -> pa.Table:
    """Returns the usable documents of a source as ``schemas.CORPUS``; see ``read_documents``."""
    return usable_documents(read_documents(source, tasks))


def usable_documents(documents: pa.Table) -> pa.Table:
    """Returns the documents without a reject reason.

    Args:
        documents: ``schemas.DOCUMENTS``.

    Returns:
        ``schemas.CORPUS``.
    """
    return documents.filter(pc.is_null(documents["reject_reason"])).select(schemas.CORPUS.names)


def read_questions(
    source: str, split: str, corpus: pa.Table, tasks: Sequence[str] | None = None, queries: str = ORIGINAL
) -> pa.Table:
    """Returns the questions of a benchmark as ``schemas.QUESTIONS``, checked against its corpus.

    Args:
        source: as in ``evaluate.benchmark``.
        split: for formats with splits (``pydocs``, BEIR).
        corpus: ``schemas.CORPUS`` of the same source.
        tasks: the tasks to read; all when left out.
        queries: ``original``, or the name of a set of rewritten questions of the benchmark (BRIGHT's ``gpt4_reason``).

    Raises:
        UserError: the source has no questions, is malformed, or judges a document that the corpus does not have.
    """
    with _open_source(source) as (reader, location):
        if queries != ORIGINAL and not reader.has_rewritten_queries:
            formats = ", ".join(name for name, other in READERS.items() if other.has_rewritten_queries)
            raise UserError(
                f"evaluate.queries={queries}: {source} has no rewritten questions, which only these formats have: "
                f"{formats}; use {ORIGINAL}"
            )
        table = reader.read_questions(location, split, corpus, tasks, queries)
    return check_questions(table, corpus, source, tasks)


def evaluation_splits(source: str) -> list[str]:
    """Returns the splits of a source whose judged documents must not become training data."""
    name, location = parse_source(source)
    return READERS[name].evaluation_splits(location)


def retrieval_instructions(source: str) -> dict[str, str]:
    """Returns the retrieval instruction of each task for which the format of the source defines one."""
    name, _ = parse_source(source)
    return dict(READERS[name].instructions)


def task_groups(benchmark: str) -> Mapping[str, Sequence[str]]:
    """Returns the groups of tasks whose averages are reported beside the average of all tasks.

    Args:
        benchmark: a source, or any other name of a benchmark (of a qrels file), which has no groups.
    """
    reader = READERS.get(benchmark.partition(":")[0])
    return reader.task_groups if reader else {}


@contextmanager
def _open_source(source: str) -> Iterator[tuple[Reader, str]]:
    """Yields the reader of a source and its location; for a folder on S3 a local copy with the same last name."""
    name, location = parse_source(source)
    if not storage.is_s3(location):
        yield READERS[name], location
        return
    with storage.local_copy(location) as folder:
        try:
            yield READERS[name], str(folder)
        except UserError as error:
            raise UserError(str(error).replace(str(folder), location)) from None
