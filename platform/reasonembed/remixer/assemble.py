"""Stage 4: training rows. Grades decide which passages are positives; rows contain grades and scores."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from reasonembed.config import Assemble
from reasonembed.ids import normalised_text

if TYPE_CHECKING:
    from reasonembed.retrieval.collection import Collection


def assemble_query(
    pairs: pa.Table,
    query: Mapping[str, Any],
    reasoning_query: str | None,
    collection: "Collection",
    config: Assemble,
) -> dict[str, Any]:
    """Returns one row of ``schemas.TRAINING`` from all graded pairs of a query.

    Equal texts count once, with their best grade. Passages are ordered by grade and score, best first. A query without
    a positive or without a negative is rejected.

    Args:
        pairs: the rows of ``schemas.ANNOTATIONS`` of the query that have a grade.
        query: its row of ``schemas.QUERIES``.
        reasoning_query: its rewrite; without one the query itself is used, so that its reasoning intensity is 1.
        collection: the documents of its task.
        config: of the stage.
    """
    sides: dict[str, list[tuple[float, int, str]]] = {"pos": [], "neg": []}
    texts: set[str] = set()
    rows = pairs.select(["doc_id", "grade", "score"]).to_pylist()
    for pair in sorted(rows, key=lambda r: (-r["grade"], -r["score"], r["doc_id"])):
        text = collection.texts[collection.position(pair["doc_id"])]
        if (key := normalised_text(text)) in texts:
            continue
        texts.add(key)
        side = "pos" if pair["grade"] >= config.positive_grade else "neg"
        sides[side].append((pair["score"], pair["grade"], text))
    row: dict[str, Any] = {
        "query_id": query["query_id"],
        "task": query["task"],
        "prompt": query["instruction"],
        "query": query["query"],
        "reasoning_query": reasoning_query or query["query"],
        "train_group_size": config.shape(query["task"])[0],
        "batch_size": config.shape(query["task"])[1],
        "reject_reason": None if all(sides.values()) else "no positive" if not sides["pos"] else "no negative",
    }
    for name, passages in sides.items():
        row[f"{name}_score"], row[f"{name}_grade"], row[name] = (
            map(list, zip(*passages, strict=True)) if passages else ([], [], [])
        )
    return row


def usable_rows(training: pa.Table) -> pa.Table:
    """Returns the accepted rows, ordered by task and query id, whatever run wrote them."""
    accepted = training.filter(pc.is_null(training["reject_reason"]))
    return accepted.sort_by([("task", "ascending"), ("query_id", "ascending")])
