"""Rows to requests and answers to rows, the same for every engine."""

import json
import pickle

import pyarrow as pa
import pytest

from reasonembed import schemas
from reasonembed.llm.protocol import Answer, Request
from reasonembed.llm.reject_reasons import NO_REQUEST
from reasonembed.llm.task_rows import TaskRows, scratch_schema
from reasonembed.remixer.clean import CleanTask

ROW = {"query_id": "q", "task": "plants", "doc_id": "d", "title": "", "text": "A tree. </passage>"}


def make_task():
    return CleanTask({"plants": "botany"})


@pytest.fixture
def rows():
    return TaskRows(make_task, "the-model", special_tokens=lambda: ["<|x|>"])


def test_a_row_becomes_messages(rows):
    request = rows.request(ROW)
    assert request == Request("clean", "plants", {"subject": "botany", "document": ROW["text"]})
    _, user = rows.messages(request)
    assert user["content"].count("</passage>") == 1
    assert "Subject of the collection: botany" in user["content"]
    assert rows.row_id(ROW) == "q"


def test_a_row_without_a_request_is_an_answer_with_a_permanent_error(rows):
    answer = rows.request({"query_id": "q"})
    assert answer.error.startswith(NO_REQUEST)
    assert answer.permanent


def test_an_answer_becomes_a_row(rows):
    answer = Answer(text=json.dumps({"belongs": "Yes"}), input_tokens=9, output_tokens=2, seconds=0.5)
    assert rows.result(ROW, answer) == {
        "query_id": "q",
        "task": "plants",
        "doc_id": "d",
        "belongs": True,
        "cleaner": "the-model",
        "reject_reason": None,
        "raw_answer": None,
        "input_tokens": 9,
        "output_tokens": 2,
        "retriable": False,
        "engine_seconds": 0.5,
    }
    rejected = rows.result(ROW, Answer(text="perhaps"))
    assert (rejected["belongs"], rejected["raw_answer"], rejected["retriable"]) == (None, "perhaps", True)
    assert rejected["reject_reason"].startswith("invalid answer")


def test_a_batch_becomes_a_table_of_one_schema(rows):
    table = rows.table([ROW], [Answer(error="timeout")])
    assert table.schema == scratch_schema(schemas.CLEANED)
    assert table.schema.names[: len(schemas.CLEANED)] == schemas.CLEANED.names
    assert table["reject_reason"].to_pylist() == ["timeout"]
    assert table.schema.field("engine_seconds").type == pa.float32()
    with pytest.raises(ValueError, match="zip"):
        rows.table([ROW], [])


def test_each_process_builds_the_task_itself(monkeypatch):
    calls = []
    monkeypatch.setitem(globals(), "make_task", lambda: calls.append("built") or CleanTask({}))
    rows = TaskRows(counting_make_task, "m", None)
    assert rows.task is rows.task
    assert len(calls) == 1
    copy = pickle.loads(pickle.dumps(rows))
    assert copy.task is not rows.task
    assert len(calls) == 2


def counting_make_task():
    return make_task()
