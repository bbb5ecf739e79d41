import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from factories import write_lines

from reasonembed.corpora import evaluation_splits, read_corpus, read_documents, read_questions
from reasonembed.errors import UserError


def test_jsonl_and_parquet(tmp_path):
    write_lines(tmp_path / "a.jsonl", [{"id": 7, "text": "with id"}, {"content": "without"}])
    pq.write_table(pa.table({"doc_id": ["p"], "text": ["parquet"], "task": ["other"]}), tmp_path / "b.parquet")
    rows = read_corpus(f"files:{tmp_path}").to_pylist()
    assert [(r["task"], r["text"]) for r in rows] == [
        (tmp_path.name, "with id"),
        (tmp_path.name, "without"),
        ("other", "parquet"),
    ]
    assert rows[0]["doc_id"] == "7"
    assert rows[1]["doc_id"]
    with pytest.raises(UserError, match=r"has documents only; .* evaluate\.benchmark"):
        read_questions(f"files:{tmp_path}", "test", read_corpus(f"files:{tmp_path}"))
    assert evaluation_splits(f"files:{tmp_path}") == []


def test_the_id_of_a_document_without_one_depends_on_its_text_only(tmp_path):
    write_lines(tmp_path / "a.jsonl", [{"text": "one"}, {"text": "two"}])
    [one, two] = read_corpus(f"files:{tmp_path}")["doc_id"].to_pylist()
    write_lines(tmp_path / "a.jsonl", [{"text": "two"}, {"text": "one"}])
    assert one != two
    assert read_corpus(f"files:{tmp_path}")["doc_id"].to_pylist() == [two, one]


def test_a_parquet_string_with_invalid_utf8_is_rejected(tmp_path):
    raw = pa.array([b"fine", b"broken \xff"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 2, raw.buffers())
    pq.write_table(pa.table({"doc_id": ["a", "b"], "text": text, "year": [1, 2]}), tmp_path / "docs.parquet")
    documents = read_documents(f"files:{tmp_path}")
    assert documents["reject_reason"].to_pylist() == [None, "text is not valid UTF-8"]


def test_a_file_that_is_not_parquet_is_named(tmp_path):
    (tmp_path / "docs.parquet").write_bytes(b"text")
    with pytest.raises(UserError, match=r"docs\.parquet: not a Parquet file"):
        read_documents(f"files:{tmp_path}")
