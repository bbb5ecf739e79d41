import pytest

from reasonembed.corpora import evaluation_splits, read_corpus, read_questions
from reasonembed.errors import UserError


def test_documents_and_judged_queries_are_read(beir_folder):
    source = f"beir:{beir_folder}"
    corpus = read_corpus(source)
    documents = [(row["task"], row["doc_id"], row["title"], row["text"]) for row in corpus.to_pylist()]
    assert documents == [("sci", "d1", "T", "one"), ("sci", "d2", "", "two")]
    [row] = read_questions(source, "test", corpus).to_pylist()
    assert (row["query_id"], row["gold_ids"], row["gold_grades"]) == ("q1", ["d1"], [2])
    with pytest.raises(UserError, match="splits there: test"):
        read_questions(source, "dev", corpus)


def test_evaluation_splits_are_those_with_qrels(beir_folder):
    source = f"beir:{beir_folder}"
    assert evaluation_splits(source) == ["test"]
    (beir_folder / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\n")
    (beir_folder / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\n")
    assert evaluation_splits(source) == ["dev", "test"]
    with pytest.raises(UserError, match="no such folder"):
        evaluation_splits("beir:/nowhere")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q1\td1", "test.tsv, line 3: query id, document id and a whole number are expected"),
        ("q1\td1\thigh", "test.tsv, line 3: query id, document id and a whole number are expected"),
        ("gone\td1\t1", "judges query 'gone', which queries.jsonl does not have"),
    ],
)
def test_invalid_qrels_are_named(beir_folder, line, message):
    (beir_folder / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\nq1\td1\t2\n{line}\n")
    source = f"beir:{beir_folder}"
    with pytest.raises(UserError) as error:
        read_questions(source, "test", read_corpus(source))
    assert message in str(error.value)
