import pyarrow as pa

from reasonembed import schemas
from reasonembed.llm.protocol import Parsed
from reasonembed.remixer.rewrite import ReasoningQuery, RewriteTask, question_id, question_rows, with_rewrites

ROW = {"query_id": "q", "task": "t", "instruction": "find it", "query": "why?", "source_doc_id": "d"}


def question(task, query):
    judged = {"gold_ids": ["g"], "gold_grades": [1], "excluded_ids": []}
    return {"task": task, "query_id": "1", "query": query, "instruction": "find it", **judged}


def test_a_query_becomes_a_request_and_a_reply_a_row():
    task = RewriteTask()
    fields = task.request(ROW).fields
    assert fields == {"query": "why?", "instruction": "find it", "source_doc_id": "d"}
    parsed = Parsed(value=ReasoningQuery(reasoning_query="because"))
    assert task.result(ROW, parsed, "m") == {"query_id": "q", "reasoning_query": "because", "rewriter": "m"}
    assert task.result(ROW, Parsed(reject_reason="x"), "m")["reasoning_query"] is None


def test_questions_with_one_id_in_several_tasks_get_their_own_rewrites():
    questions = pa.Table.from_pylist([question("a", "first"), question("b", "second")], schema=schemas.QUESTIONS)
    rows = question_rows(questions).to_pylist()
    assert [row["query"] for row in rows] == ["first", "second"]
    assert rows[0]["query_id"] != rows[1]["query_id"]
    assert RewriteTask().request(rows[0]).fields["query"] == "first"
    rewrites = pa.Table.from_pylist(
        [
            {"query_id": question_id("b", "1"), "reasoning_query": "second, because", "rewriter": "m"},
            {"query_id": question_id("a", "1"), "reasoning_query": None, "rewriter": "m", "reject_reason": "x"},
        ],
        schema=schemas.REWRITES,
    )
    rewritten = with_rewrites(questions, rewrites)
    assert rewritten["query"].to_pylist() == ["first", "second, because"]
    assert rewritten.schema == schemas.QUESTIONS
    assert rewritten.drop_columns("query").equals(questions.drop_columns("query"))
