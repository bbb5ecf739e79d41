"""The ``Reader`` protocol: what a format of corpora and benchmarks provides."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import pyarrow as pa

from reasonembed.errors import UserError

ORIGINAL = "original"
"""``queries`` for a benchmark's own questions; any other name is a set of rewritten questions."""


class Reader(Protocol):
    """A format of corpora and benchmarks. A subclass inherits the defaults below: no instructions, no groups of tasks,
    documents without questions.
    """

    location_form: str = ""
    """What follows ``<format>:`` in a source, such as ``<folder>``; empty for a format without a location."""
    instructions: Mapping[str, str] = {}
    """The retrieval instruction of each task that has one of its own."""
    task_groups: Mapping[str, Sequence[str]] = {}
    """Groups of tasks whose averages are reported beside the average of all tasks."""
    has_rewritten_queries: bool = False
    """Whether benchmarks of this format have questions other than the original ones."""

    def read_documents(self, location: str, tasks: Sequence[str] | None) -> pa.Table:
        """Returns the documents of a source as ``schemas.DOCUMENTS``.

        Args:
            location: of the source: a local folder, or what else ``location_form`` allows.
            tasks: the tasks that are needed, a hint for formats that can skip files; the caller selects them again.
        """
        ...

    def read_questions(
        self, location: str, split: str, corpus: pa.Table, tasks: Sequence[str] | None, queries: str
    ) -> pa.Table:
        """Returns the questions of a benchmark as ``schemas.QUESTIONS``.

        Args:
            location: of the source.
            split: for formats that have splits.
            corpus: ``schemas.CORPUS`` of the same source.
            tasks: as for ``read_documents``.
            queries: ``ORIGINAL`` or the name of a set of rewritten questions.
        """
        raise UserError(f"{location} has documents only; name a source with questions in evaluate.benchmark")

    def evaluation_splits(self, location: str) -> list[str]:
        """Returns the splits whose judged documents must not become training data.

        Args:
            location: of the source, which may be on S3.
        """
        return []
