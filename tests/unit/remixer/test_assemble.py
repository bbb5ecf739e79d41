import numpy as np
import pyarrow as pa

from reasonembed import schemas
from reasonembed.config import Assemble
from reasonembed.remixer.assemble import assemble_query, usable_rows
from reasonembed.retrieval.collection import Collection

QUERY = {"query_id": "q", "task": "pony", "instruction": "i", "query": "text"}
COLLECTION = Collection(["a", "b", "c", "d"], ["one", "two", " one ", "four"], np.zeros((4, 0), np.float32))


def pairs(*rows):
    doc_ids, grades, scores = zip(*rows, strict=True)
    return pa.table({"doc_id": list(doc_ids), "grade": list(grades), "score": list(scores)})


def assembled(*rows, rewrite="r", **config):
    return assemble_query(pairs(*rows), QUERY, rewrite, COLLECTION, Assemble(**config))


def test_equal_texts_count_once_with_their_best_grade_and_scores_stay():
    row = assembled(("d", 1, 0.1), ("b", 2, 0.4), ("a", 3, 0.8), ("c", 5, 0.9), rewrite=None)
    assert (row["pos"], row["pos_score"], row["pos_grade"]) == ([" one "], [0.9], [5])
    assert (row["neg"], row["neg_score"], row["neg_grade"]) == (["two", "four"], [0.4, 0.1], [2, 1])
    assert row["reject_reason"] is None


def test_without_a_rewrite_the_query_replaces_it():
    rows = (("d", 1, 0.1), ("a", 3, 0.8))
    assert assembled(*rows, rewrite=None)["reasoning_query"] == "text"
    assert assembled(*rows, rewrite="because")["reasoning_query"] == "because"


def test_the_task_and_the_grade_bound_are_configured():
    row = assembled(("d", 1, 0.1), ("b", 4, 0.4), ("a", 5, 0.8), positive_grade=5)
    assert (row["pos"], row["neg"]) == (["one"], ["two", "four"])
    assert (row["train_group_size"], row["batch_size"]) == (64, 2)  # of the task pony
    shape = assembled(("d", 1, 0.1), ("a", 5, 0.8), shapes={}, group_size=4, batch_size=3)
    assert (shape["train_group_size"], shape["batch_size"]) == (4, 3)


def test_a_query_with_one_side_only_is_rejected():
    no_positive, no_negative = assembled(("a", 1, 0.1)), assembled(("a", 4, 0.9))
    assert (no_positive["reject_reason"], no_negative["reject_reason"]) == ("no positive", "no negative")
    usable = assembled(("d", 1, 0.1), ("a", 3, 0.8))
    table = pa.Table.from_pylist([no_positive, usable, no_negative], schema=schemas.TRAINING)
    assert usable_rows(table).to_pylist() == table.slice(1, 1).to_pylist()


def test_usable_rows_come_in_the_same_order_whoever_wrote_them():
    row = assembled(("d", 1, 0.1), ("a", 3, 0.8))
    rows = [row | {"task": task, "query_id": query_id} for task, query_id in (("b", "1"), ("a", "2"), ("a", "1"))]
    table = usable_rows(pa.Table.from_pylist(rows, schema=schemas.TRAINING))
    order = list(zip(table["task"].to_pylist(), table["query_id"].to_pylist(), strict=True))
    assert order == [("a", "1"), ("a", "2"), ("b", "1")]
