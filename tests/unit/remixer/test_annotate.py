import numpy as np
import pytest

from reasonembed.corpora.bright import INSTRUCTIONS
from reasonembed.llm.protocol import Parsed
from reasonembed.remixer.annotate import AnnotateTask, Grading, relevance_definitions
from reasonembed.retrieval.collection import Collection

PAIR = {"pair_id": "p", "query_id": "q", "doc_id": "d"}
GRADING = Grading(query_analysis="a", document_analysis="b", grade=4)


def annotate_task(task="leetcode", **relevance):
    collection = Collection(["d"], ["the document"], np.zeros((1, 0), np.float32))
    query = {"query_id": "q", "task": task, "query": "sort it", "source_doc_id": "s"}
    return AnnotateTask(lambda: {"q": query}, lambda: {task: collection}, relevance)


def test_the_request_has_the_query_the_document_and_the_relevance_of_the_task():
    request = annotate_task(mine="it is mine").request(PAIR)
    assert "algorithms or data structures" in request.fields["relevance"]
    assert (request.task, request.fields["query"]) == ("leetcode", "sort it")
    assert (request.fields["document"], request.fields["doc_id"]) == ("the document", "d")


def test_configured_definitions_of_relevance_take_precedence():
    assert annotate_task(leetcode="it sorts").request(PAIR).fields["relevance"] == "it sorts"
    default = relevance_definitions()["default"]
    assert annotate_task("mine").request(PAIR).fields["relevance"] == default
    assert annotate_task("mine", default="it helps").request(PAIR).fields["relevance"] == "it helps"


def test_a_document_that_the_corpus_does_not_have_is_an_error():
    with pytest.raises(KeyError):
        annotate_task().request({**PAIR, "doc_id": "nowhere"})


def test_the_score_is_the_expected_grade_or_else_the_grade():
    task = annotate_task()
    row = task.result(PAIR, Parsed(value=GRADING), "m")
    assert (row["grade"], row["score"], row["rationale"], row["annotator"]) == (4, 0.75, "a\nb", "m")
    assert task.result(PAIR, Parsed(value=GRADING, score=0.6), "m")["score"] == 0.6
    assert task.result(PAIR, Parsed(value=GRADING, score=0.0), "m")["score"] == 0.0
    rejected = task.result(PAIR, Parsed(reject_reason="x"), "m")
    assert (rejected["grade"], rejected["score"], rejected["rationale"]) == (None, None, None)


def test_all_tasks_of_bright_have_a_definition_of_relevance():
    assert set(relevance_definitions()["tasks"]) == set(INSTRUCTIONS)
