import pytest
from factories import write_lines

from reasonembed.corpora import read_corpus, read_documents


def add_invalid_json(folder):
    path = folder / "nature" / "documents.jsonl"
    path.write_text(path.read_text() + "{oops\n")


def add_json_that_is_not_an_object(folder):
    path = folder / "nature" / "documents.jsonl"
    path.write_text(path.read_text() + "[]\n")


def rename_a_field(folder):
    write_lines(folder / "nature" / "documents.jsonl", [{"id": "d", "body": "text"}])


def write_example(folder, **fields):
    example = {"id": "q", "query": "?", "gold_ids": [], "excluded_ids": []}
    write_lines(folder / "nature" / "examples.jsonl", [{**example, **fields}])


def write_a_query_that_is_not_text(folder):
    write_example(folder, query=["?"])


def write_gold_ids_that_are_not_a_list(folder):
    write_example(folder, gold_ids="d")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (add_invalid_json, "documents.jsonl, line 33: not JSON"),
        (add_json_that_is_not_an_object, "documents.jsonl, line 33: a JSON object is expected, not a list"),
        (rename_a_field, "documents.jsonl, line 1: no field 'content'; it has body, id"),
        (write_a_query_that_is_not_text, "examples.jsonl, line 1: field 'query' must be text, not list"),
        (write_gold_ids_that_are_not_a_list, "line 1: field 'gold_ids' must be a list of document ids"),
    ],
)
def test_an_invalid_row_is_named(error_of_damage, damage, message):
    assert message in error_of_damage(damage)


def test_an_unusable_document_is_rejected_alone(tmp_path):
    (tmp_path / "docs.jsonl").write_bytes(
        b'{"doc_id": "good", "text": "a document"}\n'
        b'{"doc_id": "bytes", "text": "broken \xff\xfe here"}\n'
        b'{"doc_id": "pair", "text": "half \\ud800 a pair"}\n'
        b'{"doc_id": "empty", "text": ""}\n'
        b'{"doc_id": "space", "text": " \\n\\t "}\n'
    )
    documents = read_documents(f"files:{tmp_path}")
    reasons = dict(zip(documents["doc_id"].to_pylist(), documents["reject_reason"].to_pylist(), strict=True))
    utf8, empty = "text is not valid UTF-8", "empty text"
    assert reasons == {"good": None, "bytes": utf8, "pair": utf8, "empty": empty, "space": empty}
    assert read_corpus(f"files:{tmp_path}")["doc_id"].to_pylist() == ["good"]
