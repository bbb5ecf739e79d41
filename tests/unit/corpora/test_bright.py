import pytest
from factories import write_bright, write_lines

from reasonembed.corpora import evaluation_splits, read_corpus, read_questions
from reasonembed.errors import UserError


def test_a_folder_of_tasks(tiny_corpus):
    source = f"bright:{tiny_corpus}"
    corpus = read_corpus(source)
    assert sorted(set(corpus["task"].to_pylist())) == ["nature", "physics"]
    assert corpus.num_rows == 64
    questions = read_questions(source, "test", corpus).to_pylist()
    by_id = {row["query_id"]: row for row in questions}
    assert by_id["heat"]["excluded_ids"] == ["physics/heat 2"]
    assert by_id["cold"]["excluded_ids"] == []
    assert by_id["cold"]["gold_ids"] == ["physics/cold 0", "physics/cold 1"]
    assert read_corpus(source, ["nature"]).num_rows == 32
    assert evaluation_splits(source) == ["test"]


def test_a_folder_of_one_task_has_the_instruction_of_the_protocol(tmp_path, tiny_corpus):
    folder = tmp_path / "bright_pony"
    folder.mkdir()
    for name in ("documents.jsonl", "examples.jsonl"):
        (folder / name).write_text((tiny_corpus / "nature" / name).read_text())
    corpus = read_corpus(f"bright:{folder}")
    [row, *_] = read_questions(f"bright:{folder}", "test", corpus).to_pylist()
    assert row["task"] == "pony"
    assert row["instruction"] == "Given a Pony question, retrieve relevant passages that help answer the question."


def test_empty_documents_stay_in_the_corpus(tmp_path):
    folder = write_bright(tmp_path / "bright_tiny")
    with (folder / "nature" / "documents.jsonl").open("a") as file:
        file.write('{"id": "nothing", "content": ""}\n')
    assert "nothing" in read_corpus(f"bright:{folder}")["doc_id"].to_pylist()


def test_long_documents_and_rewritten_queries(tmp_path, tiny_corpus):
    folder = tmp_path / "nature"
    folder.mkdir()
    write_lines(folder / "documents.jsonl", [{"id": "d 1", "content": "short one"}, {"id": "d 2", "content": "two"}])
    write_lines(folder / "long_documents.jsonl", [{"id": "D", "content": "long"}, {"id": "E", "content": "longer"}])
    example = {"id": "q", "query": "original?", "excluded_ids": ["N/A"], "gold_ids": ["d 1"], "gold_ids_long": ["D"]}
    write_lines(folder / "examples.jsonl", [example])
    write_lines(folder / "gpt4_reason.jsonl", [example | {"query": "reasoned at length"}])
    source = f"bright-long:{folder}"
    corpus = read_corpus(source)
    assert corpus["doc_id"].to_pylist() == ["D", "E"]
    [row] = read_questions(source, "test", corpus).to_pylist()
    assert (row["gold_ids"], row["query"]) == (["D"], "original?")
    short = read_corpus(f"bright:{folder}")
    [row] = read_questions(f"bright:{folder}", "test", short, queries="gpt4_reason").to_pylist()
    assert (row["gold_ids"], row["query"]) == (["d 1"], "reasoned at length")
    with pytest.raises(UserError, match=r"no long_documents\.jsonl"):
        read_corpus(f"bright-long:{tiny_corpus}")
    with pytest.raises(UserError, match=r"other_reason\.jsonl does not exist"):
        read_questions(f"bright:{folder}", "test", short, queries="other_reason")
    write_lines(folder / "gpt4_reason.jsonl", [example | {"id": "another"}])
    with pytest.raises(UserError, match="query 'q' has no rewritten query"):
        read_questions(f"bright:{folder}", "test", short, queries="gpt4_reason")
