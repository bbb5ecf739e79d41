import json

import datasets
import pyarrow as pa
import pytest

from reasonembed import schemas
from reasonembed.errors import UserError
from reasonembed.remixer.interchange import published_fingerprint, read_published, write_datasets, write_published


def training_table(*tasks):
    rows = [
        {
            "query_id": f"{task}-{n}",
            "task": task,
            "prompt": "Find it.",
            "query": f"query {n} – “ü”",
            "reasoning_query": f"because {n}",
            "pos": ["p1", "p2\nline"],
            "neg": ["n1", "n2", "n3"],
            "pos_score": [0.75, 0.5],
            "neg_score": [0.25, 0.0, 0.0],
            "pos_grade": [4, 3],
            "neg_grade": [2, 1, 1],
            "train_group_size": 16,
            "batch_size": 8,
        }
        for task in tasks
        for n in range(2)
    ]
    return pa.Table.from_pylist(rows, schema=schemas.TRAINING)


def test_written_rows_are_read_back_equal(tmp_path):
    table = training_table("biology", "pony")
    assert write_published(table, str(tmp_path)) == ["biology.jsonl", "pony.jsonl"]
    assert read_published(str(tmp_path)).equals(table)
    first = json.loads((tmp_path / "pony.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert {"prompt", "query", "reasoning_query", "pos", "neg", "train_group_size", "batch_size"} <= set(first)


def test_a_row_without_grades_gets_the_outermost_ones(tmp_path):
    row = {"prompt": "", "query": "q", "reasoning_query": "r", "pos": ["p"], "neg": ["n", "m"], "train_group_size": 2}
    (tmp_path / "leetcode.jsonl").write_text(json.dumps(row | {"batch_size": 64}) + "\n\n" + json.dumps(row) + "\n")
    first, second = read_published(str(tmp_path)).to_pylist()
    assert (first["task"], first["pos_grade"], first["neg_score"]) == ("leetcode", [5], [0.0, 0.0])
    assert (first["pos_score"], first["neg_grade"]) == ([1.0], [1, 1])
    assert (first["train_group_size"], first["batch_size"]) == (2, 64)
    assert first["query_id"] != second["query_id"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1: not JSON"),
        ("[]", "line 1: a JSON object is expected, not a list"),
        ('{"prompt": "", "query": " ", "pos": ["p"], "neg": ["n"]}', "field 'query' must be text"),
        ('{"query": "q", "pos": ["p"], "neg": ["n"]}', "field 'prompt' must be text"),
        ('{"prompt": "", "query": "q", "pos": [], "neg": ["n"]}', "field 'pos' must be a list"),
        ('{"prompt": "", "query": "q", "pos": ["p"], "neg": [1]}', "field 'neg' must be a list"),
        ('{"prompt": "", "query": "q", "pos": ["p"], "neg": ["n"], "pos_grade": [1, 2]}', "pos_grade must be as long"),
    ],
)
def test_the_error_names_the_bad_line(tmp_path, line, message):
    (tmp_path / "t.jsonl").write_text(line + "\n")
    with pytest.raises(UserError, match=r"t\.jsonl, line 1") as raised:
        read_published(str(tmp_path))
    assert message in str(raised.value)


def test_a_folder_without_files_or_without_rows_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"no \.jsonl file"):
        read_published(str(tmp_path))
    (tmp_path / "t.jsonl").write_text("\n")
    with pytest.raises(UserError, match="no training row"):
        read_published(str(tmp_path))


def test_the_fingerprint_is_that_of_the_content(tmp_path):
    write_published(training_table("a"), str(tmp_path / "one"))
    write_published(training_table("a"), str(tmp_path / "two"))
    before = published_fingerprint(str(tmp_path / "one"))
    assert published_fingerprint(str(tmp_path / "two")) == before
    with (tmp_path / "one" / "a.jsonl").open("a") as file:
        file.write("\n")
    assert published_fingerprint(str(tmp_path / "one")) != before


@pytest.mark.parametrize(
    ("negatives", "expected"), [(2, ["n1", "n2"]), (3, ["n1", "n2", "n3"]), (4, ["n1", "n2", "n3", "n1"])]
)
def test_a_datasets_folder(tmp_path, negatives, expected):
    assert write_datasets(training_table("a"), tmp_path / "d", negatives, instruct=True) == 2
    data = datasets.load_from_disk(str(tmp_path / "d"))
    assert data.column_names == ["anchor", "positive", *(f"negative_{n + 1}" for n in range(negatives))]
    row = data[0]
    assert row["anchor"] == "Instruct: Find it.\nQuery: query 0 – “ü”"
    assert row["positive"] == "p1"
    assert [row[f"negative_{n + 1}"] for n in range(negatives)] == expected
