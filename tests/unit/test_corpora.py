import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from parts import write_bright, write_lines

from reasonembed.corpora import parse_source, read_corpus, read_documents, read_questions
from reasonembed.errors import UserError


@pytest.fixture
def beir(tmp_path):
    folder = tmp_path / "sci"
    (folder / "qrels").mkdir(parents=True)
    write_lines(
        folder / "corpus.jsonl", [{"_id": "d1", "title": "T", "text": "one"}, {"_id": "d2", "title": "", "text": "two"}]
    )
    write_lines(folder / "queries.jsonl", [{"_id": "q1", "text": "first?"}, {"_id": "q2", "text": "never judged"}])
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\n")
    return folder


def test_bright_folder_of_tasks(tiny_corpus):
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


def test_bright_folder_of_one_task_has_its_protocols_instruction(tmp_path, tiny_corpus):
    folder = tmp_path / "bright_pony"
    folder.mkdir()
    for name in ("documents.jsonl", "examples.jsonl"):
        (folder / name).write_text((tiny_corpus / "nature" / name).read_text())
    corpus = read_corpus(f"bright:{folder}")
    [row, *_] = read_questions(f"bright:{folder}", "test", corpus).to_pylist()
    assert row["task"] == "pony"
    assert row["instruction"] == "Given a Pony question, retrieve relevant passages that help answer the question."


def test_beir(beir):
    source = f"beir:{beir}"
    corpus = read_corpus(source)
    [row] = read_questions(source, "test", corpus).to_pylist()
    assert (row["query_id"], row["gold_ids"], row["gold_grades"]) == ("q1", ["d1"], [2])
    with pytest.raises(UserError, match="splits there: test"):
        read_questions(source, "dev", corpus)


def test_files_jsonl_and_parquet(tmp_path):
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
    with pytest.raises(UserError, match="has documents only"):
        read_questions(f"files:{tmp_path}", "test", read_corpus(f"files:{tmp_path}"))


def bad_json(folder):
    path = folder / "nature" / "documents.jsonl"
    path.write_text(path.read_text() + "{oops\n")


def twice(folder):
    path = folder / "nature" / "documents.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[0]]) + "\n")


def unknown_gold(folder):
    path = folder / "nature" / "examples.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0]["gold_ids"] = ["nowhere"]
    write_lines(path, rows)


def empty(folder):
    for path in folder.rglob("documents.jsonl"):
        path.write_text("")


def no_gold(folder):
    path = folder / "nature" / "examples.jsonl"
    write_lines(path, [{"id": "q", "query": "?", "gold_ids": [], "excluded_ids": []}])


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (bad_json, "documents.jsonl, line 33: not JSON"),
        (twice, "'nature/sound 0' occurs more than once in task 'nature'"),
        (unknown_gold, "names gold document 'nowhere'"),
        (empty, "is empty"),
        (no_gold, "has no gold document"),
    ],
)
def test_bad_input_is_named(tmp_path, damage, says):
    folder = write_bright(tmp_path / "bright_tiny")
    damage(folder)

    def read():
        read_questions(f"bright:{folder}", "test", read_corpus(f"bright:{folder}"))

    with pytest.raises(UserError) as caught:
        read()
    assert says in str(caught.value)


@pytest.mark.parametrize("source", ["pydoc", "bright:", "pydocs:x", "elastic:x"])
def test_unknown_source(source):
    with pytest.raises(UserError, match="is not known; write pydocs, bright:"):
        parse_source(source)


@pytest.mark.parametrize("source", ["bright:./nowhere", "beir:/nowhere", "files:/nowhere"])
def test_missing_folder(source):
    with pytest.raises(UserError, match="no such folder"):
        read_corpus(source)


def test_hub_that_cannot_be_reached_is_one_line():
    with pytest.raises(UserError, match="neither a folder here nor a data set that the hub gives") as caught:
        read_corpus("bright:nobody/nothing")
    assert "\n" not in str(caught.value)


def test_unknown_task(tiny_corpus):
    with pytest.raises(UserError, match="has no task 'chemistry'; its tasks: nature, physics"):
        read_corpus(f"bright:{tiny_corpus}", ["chemistry"])


def test_a_document_that_is_no_text_is_a_reject_and_costs_nothing_else(tmp_path):
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


def test_a_parquet_string_that_is_no_utf8_is_a_reject(tmp_path):
    raw = pa.array([b"fine", b"broken \xff"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 2, raw.buffers())
    pq.write_table(pa.table({"doc_id": ["a", "b"], "text": text, "year": [1, 2]}), tmp_path / "docs.parquet")
    documents = read_documents(f"files:{tmp_path}")
    assert documents["reject_reason"].to_pylist() == [None, "text is not valid UTF-8"]


def test_a_benchmark_keeps_its_empty_documents(tmp_path):
    folder = write_bright(tmp_path / "bright_tiny")
    with (folder / "nature" / "documents.jsonl").open("a") as file:
        file.write('{"id": "nothing", "content": ""}\n')
    assert "nothing" in read_corpus(f"bright:{folder}")["doc_id"].to_pylist()


def test_bright_long_documents_and_rewritten_queries(tmp_path, tiny_corpus):
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


@pytest.fixture
def r2med(tmp_path):
    for task in ("Biology", "PMC-Clinical"):
        folder = tmp_path / "r2med" / task
        folder.mkdir(parents=True)
        write_lines(folder / "corpus.jsonl", [{"id": "d1", "text": "one"}, {"id": "d2", "text": "two"}])
        write_lines(folder / "query.jsonl", [{"id": "q1", "text": f"{task}?"}])
        judged = [{"q_id": "q1", "p_id": "d2", "score": 1}, {"q_id": "q1", "p_id": "d1", "score": 0}]
        write_lines(folder / "qrels.jsonl", judged)
    return tmp_path / "r2med"


def test_r2med(r2med):
    source = f"r2med:{r2med}"
    corpus = read_corpus(source)
    assert corpus.num_rows == 4
    rows = {row["task"]: row for row in read_questions(source, "test", corpus).to_pylist()}
    assert rows["Biology"]["gold_ids"] == ["d2"]
    assert rows["Biology"]["instruction"].startswith("Given a Biology post, retrieve relevant passages")
    assert rows["PMC-Clinical"]["instruction"].endswith("retrieve similar cases that help diagnose the case.")
    assert read_corpus(f"r2med:{r2med / 'Biology'}")["task"].unique().to_pylist() == ["Biology"]
    with pytest.raises(UserError, match="has no task 'Chemistry'; its tasks: Biology, PMC-Clinical"):
        read_corpus(source, ["Chemistry"])
    write_lines(r2med / "Biology" / "qrels.jsonl", [{"q_id": "gone", "p_id": "d2", "score": 1}])
    with pytest.raises(UserError, match="judge query 'gone'"):
        read_questions(source, "test", corpus)
    write_lines(r2med / "Biology" / "qrels.jsonl", [{"q_id": "q1", "p_id": "unknown", "score": 1}])
    with pytest.raises(UserError, match="names gold document 'unknown'"):
        read_questions(source, "test", corpus)


def test_only_bright_carries_rewritten_queries(beir):
    corpus = read_corpus(f"beir:{beir}")
    with pytest.raises(UserError, match="only BRIGHT carries"):
        read_questions(f"beir:{beir}", "test", corpus, queries="gpt4_reason")
