from remixer_tables import queries_table

from reasonembed import storage
from reasonembed.artifacts import Artifact
from reasonembed.remixer.queries import queries_by_id, usable_queries


def test_only_queries_that_were_not_rejected_are_used(tmp_path):
    table = queries_table("first", None, "third")
    assert usable_queries(table)["query"].to_pylist() == ["first", "third"]
    storage.write_table(table, str(tmp_path / "part-00000.parquet"))
    entry = {"path": "part-00000.parquet", "size": 0, "sha256": ""}
    queries = queries_by_id(Artifact(str(tmp_path), {"files": [entry]}))
    assert {query_id: row["query"] for query_id, row in queries.items()} == {"0": "first", "2": "third"}
