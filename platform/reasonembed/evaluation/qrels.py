"""Corrected relevance judgements: a document with the same text as a gold document is relevant too.

BRIGHT's corpora contain many texts more than once, and its judgements name only one of the copies. The leaderboard uses
the original judgements. Figures by the corrected ones are shown beside them, and the two are never mixed.
"""

import pyarrow as pa

from reasonembed import schemas
from reasonembed.corpora.tables import texts_by_key


def add_equal_texts(questions: pa.Table, corpus: pa.Table) -> tuple[pa.Table, int]:
    """Adds the copies of gold documents to the gold documents.

    A copy gets the grade of the gold document that it equals. Excluded documents stay excluded.

    Args:
        questions: ``schemas.QUESTIONS``.
        corpus: ``schemas.CORPUS``.

    Returns:
        ``schemas.QUESTIONS``, and the number of added judgements over all questions.
    """
    texts = texts_by_key(corpus)
    copies: dict[tuple[str, str], list[str]] = {}
    for (task, doc_id), text in texts.items():
        copies.setdefault((task, text), []).append(doc_id)
    rows, added = [], 0
    for row in questions.to_pylist():
        grades = dict(zip(row["gold_ids"], row["gold_grades"], strict=True))
        excluded = set(row["excluded_ids"])
        for doc_id, grade in list(grades.items()):
            for copy in copies[row["task"], texts[row["task"], doc_id]]:
                if copy not in excluded:
                    grades.setdefault(copy, grade)
        added += len(grades) - len(row["gold_ids"])
        rows.append(row | {"gold_ids": list(grades), "gold_grades": list(grades.values())})
    return pa.Table.from_pylist(rows, schema=schemas.QUESTIONS), added
