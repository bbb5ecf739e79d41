import numpy as np
import pytest

from reasonembed.llm.extractive import ExtractiveEngine, extract_query
from reasonembed.llm.parsing import parse
from reasonembed.llm.protocol import Request
from reasonembed.remixer.annotate import Grading
from reasonembed.remixer.generate import GeneratedQuery
from reasonembed.remixer.rewrite import ReasoningQuery
from reasonembed.retrieval.collection import Collection

TEXTS = {
    "heapq.nlargest": "Find the n largest elements in a dataset without sorting.",
    "heapq.nsmallest": "Find the n smallest elements in a dataset without sorting.",
    "bisect.insort": "Insert an item into a sorted list and keep it sorted.",
    "os.remove": "Delete a file from disk.",
}


@pytest.fixture
def engine():
    vocabulary = sorted({word.strip(".").lower() for text in TEXTS.values() for word in text.split()})

    def encode(texts):
        rows = np.array([[text.lower().count(word) for word in vocabulary] for text in texts], np.float32) + 1e-3
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    texts = list(TEXTS.values())
    collection = Collection(list(TEXTS), texts, encode(texts))
    return ExtractiveEngine({"data": collection}, encode, lexical_weight=0.25, feedback_docs=2)


def parsed_answer(engine, stage, form, **fields):
    [answer] = engine.answer([Request(stage, "data", fields)])
    return parse(answer, form)


@pytest.mark.parametrize(
    ("title", "document", "query"),
    [
        ("heapq.nlargest(n, it)", "Find the n largest elements. More text.", "Find the n largest elements"),
        ("re.Match.groups(self)", "Returns all groups of the `match` found.", "Get all of the match found"),
        ("x", "f(a, b) -> c\n\nAdds two numbers and gives a sum.", "Adds two numbers and gives a sum"),
        ("x", "Too short. This one has words enough to ask.", "This one has words enough to ask"),
    ],
)
def test_the_query_is_a_sentence_that_does_not_name_its_document(title, document, query):
    assert extract_query(document, title) == query


def test_a_document_without_a_sentence_is_rejected(engine):
    parsed = parsed_answer(engine, "generate", GeneratedQuery, document=">>> f(1)", title="f")
    assert parsed.value is None
    assert "no sentence" in parsed.reject_reason
    assert not parsed.retriable


def test_a_rewrite_adds_words_of_the_documents_that_the_query_retrieves(engine):
    fields = {"query": "largest elements", "source_doc_id": "heapq.nlargest"}
    parsed = parsed_answer(engine, "rewrite", ReasoningQuery, **fields)
    assert parsed.value.reasoning_query.startswith("largest elements. Related: ")
    assert "smallest" in parsed.value.reasoning_query


def test_grades_are_relative_to_the_source(engine):
    fields = {"query": TEXTS["heapq.nlargest"], "source_doc_id": "heapq.nlargest"}
    gradings = {doc_id: parsed_answer(engine, "annotate", Grading, **fields, doc_id=doc_id) for doc_id in TEXTS}
    assert gradings["heapq.nlargest"].score == pytest.approx(1, abs=0.1)
    assert gradings["heapq.nsmallest"].score > gradings["os.remove"].score
    assert gradings["heapq.nsmallest"].value.grade > gradings["os.remove"].value.grade


def test_an_unknown_document_is_an_answer_with_an_error_not_an_exception(engine):
    fields = {"query": "x", "source_doc_id": "nowhere", "doc_id": "os.remove"}
    parsed = parsed_answer(engine, "annotate", Grading, **fields)
    assert "nowhere" in parsed.reject_reason
    assert not parsed.retriable


def test_a_stage_that_the_engine_does_not_know_is_an_answer_with_an_error(engine):
    [answer] = engine.answer([Request("clean", "data", {})])
    assert (answer.text, answer.permanent) == (None, True)
    assert "clean" in answer.error


def test_answers_come_in_the_order_of_the_requests(engine):
    documents = ["Adds two numbers and gives a sum.", ">>> f(1)", "Insert an item into a sorted list."]
    requests = [Request("generate", "data", {"document": document, "title": "x"}) for document in documents]
    values = [parse(answer, GeneratedQuery).value for answer in engine.answer(requests)]
    assert [value and value.query for value in values] == [
        "Adds two numbers and gives a sum",
        None,
        "Insert an item into a sorted list",
    ]
