"""Filter of generated queries: no duplicates, no near-duplicates of evaluation questions."""

from collections.abc import Sequence

import pyarrow as pa

from reasonembed.deduplication import NearDuplicateIndex, fold_case


class QueryFilter:
    """Rejects duplicates within a task, except the first, and near-duplicates of evaluation questions.

    It is called with one table after the other and compares each query with those of all earlier tables.

    Args:
        questions: of every protected benchmark.
        near_question: least Jaccard similarity of three-word shingles at which a query counts as a near-duplicate.
    """

    def __init__(self, questions: Sequence[str], near_question: float) -> None:
        self._earlier: set[tuple[str, str]] = set()
        self._questions = NearDuplicateIndex(questions, near_question)

    def __call__(self, queries: pa.Table) -> pa.Table:
        """Returns ``schemas.QUERIES`` with ``reject_reason`` set for the rejected rows."""
        reasons: list[str | None] = []
        for row in queries.select(["task", "query", "reject_reason"]).to_pylist():
            reason = row["reject_reason"]
            if reason is None:
                key = (row["task"], fold_case(row["query"]))
                if key in self._earlier:
                    reason = "equal to another query"
                elif self._questions.find_near(row["query"]):
                    reason = "near-copy of an evaluation question"
                self._earlier.add(key)
            reasons.append(reason)
        position = queries.schema.get_field_index("reject_reason")
        return queries.set_column(position, queries.schema.field(position), pa.array(reasons, pa.string()))
