import json
import shutil

import numpy as np
import pytest
from small_indexes import write_index

from reasonembed.errors import UserError
from reasonembed.serving.index_shards import IndexShards, load_index_artifact, merge_rankings

TEXTS = [["ice", "snow and ice", "rain"], ["a bell", "schöner Klang"]]


def test_merged_rankings_put_equal_scores_in_order_of_position():
    first = (np.array([5, 1]), np.array([0.9, 0.5], np.float32))
    second = (np.array([12, 10, 11]), np.array([0.95, 0.5, 0.1], np.float32))
    positions, scores = merge_rankings([second, first], 4)
    assert positions.tolist() == [12, 5, 1, 10]
    assert scores.tolist() == np.float32([0.95, 0.9, 0.5, 0.5]).tolist()


def test_documents_are_returned_with_or_without_texts(tmp_path):
    uri = write_index(tmp_path / "v1", TEXTS)
    whole, second = (IndexShards(load_index_artifact(uri), *share) for share in ((0, 1), (1, 2)))
    assert whole.documents([4, 0]) == {
        4: {"task": "a", "doc_id": "4", "text": "schöner Klang"},
        0: {"task": "a", "doc_id": "0", "text": "ice"},
    }
    assert second.documents([0, 3], with_text=False) == {3: {"task": "a", "doc_id": "3"}}


def test_the_size_of_texts_is_known_without_reading_them(tmp_path):
    uri = write_index(tmp_path / "v1", TEXTS)
    whole, second = (IndexShards(load_index_artifact(uri), *share) for share in ((0, 1), (1, 2)))
    assert whole.text_bytes([]) == 0
    assert whole.text_bytes([0, 4]) == len("ice") + len("schöner Klang".encode())
    assert second.text_bytes([0, 3]) == len("a bell")


@pytest.mark.parametrize("name", ["index.faiss", "documents.parquet", "bm25/words.json", "bm25/weights.npy"])
def test_a_file_that_the_record_does_not_list_is_not_opened(tmp_path, name):
    uri = write_index(tmp_path / "v1", TEXTS)
    record_file = tmp_path / "v1" / "_artifact.json"
    record = json.loads(record_file.read_text())
    record["files"] = [entry for entry in record["files"] if entry["path"] != f"shard-00001/{name}"]
    record_file.write_text(json.dumps(record))
    with pytest.raises(UserError, match=f"shard-00001/{name} is missing or differs from its record"):
        IndexShards(load_index_artifact(uri))
    assert len(IndexShards(load_index_artifact(uri), 0, 2)) == 3


def test_a_missing_file_is_an_error(tmp_path):
    uri = write_index(tmp_path / "v1", TEXTS)
    shutil.rmtree(tmp_path / "v1" / "shard-00001" / "bm25")
    with pytest.raises(UserError, match=r"shard-00001/bm25/weights\.npy is missing"):
        IndexShards(load_index_artifact(uri))
