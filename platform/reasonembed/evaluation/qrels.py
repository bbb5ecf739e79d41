"""The second set of judgements: a document with the text of a gold document is relevant too.

BRIGHT's corpora hold many texts more than once, of which the judgements know one copy. The leaderboard counts by these
judgements, the corrected ones stand beside them, and the two are never mixed (METHOD §3, rule 4).
"""

import pyarrow as pa

from reasonembed import schemas
from reasonembed.corpora.tables import texts_by_key


def with_equal_texts(questions: pa.Table, corpus: pa.Table) -> tuple[pa.Table, int]:
    """``schemas.QUESTIONS`` with the further gold documents, and how many they are over all questions.

    A copy takes the grade of the gold document it equals. Excluded documents stay excluded.
    """
    text_of = texts_by_key(corpus)
    copies: dict[tuple[str, str], list[str]] = {}
    for (task, doc_id), text in text_of.items():
        copies.setdefault((task, text), []).append(doc_id)
    rows, added = [], 0
    for row in questions.to_pylist():
        grades = dict(zip(row["gold_ids"], row["gold_grades"], strict=True))
        excluded = set(row["excluded_ids"])
        for doc_id, grade in list(grades.items()):
            for copy in copies[row["task"], text_of[row["task"], doc_id]]:
                if copy not in excluded:
                    grades.setdefault(copy, grade)
        added += len(grades) - len(row["gold_ids"])
        rows.append(row | {"gold_ids": list(grades), "gold_grades": list(grades.values())})
    return pa.Table.from_pylist(rows, schema=schemas.QUESTIONS), added
