import numpy as np
import pytest

from reasonembed.llm.extractive import ExtractiveEngine, extract_query
from reasonembed.llm.protocol import Request
from reasonembed.llm.replies import GeneratedQuery, Grading, ReasoningQuery, parse
from reasonembed.retrieval.collection import Collection

TEXTS = {
    "heapq.nlargest": "Find the n largest elements in a dataset without sorting.",
    "heapq.nsmallest": "Find the n smallest elements in a dataset without sorting.",
    "bisect.insort": "Insert an item into a sorted list and keep it sorted.",
    "os.remove": "Delete a file from disk.",
}


@pytest.fixture
def engine():
    vocabulary = sorted({w.strip(".").lower() for text in TEXTS.values() for w in text.split()})

    def encode(texts):
        rows = np.array([[t.lower().count(w) for w in vocabulary] for t in texts], np.float32) + 1e-3
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    texts = list(TEXTS.values())
    collection = Collection(list(TEXTS), texts, encode(texts))
    return ExtractiveEngine({"data": collection}, encode, lexical_weight=0.25, feedback_docs=2)


def ask(engine, kind, form, **fields):
    [answer] = engine.answer([Request(kind, "data", fields)])
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
def test_query_is_a_sentence_that_does_not_name_its_document(title, document, query):
    assert extract_query(document, title) == query


def test_document_without_a_sentence_is_rejected(engine):
    parsed = ask(engine, "generate", GeneratedQuery, document=">>> f(1)", title="f")
    assert parsed.value is None
    assert "no sentence" in parsed.reject_reason


def test_rewrite_adds_words_of_what_the_query_finds(engine):
    parsed = ask(engine, "rewrite", ReasoningQuery, query="largest elements", source_doc_id="heapq.nlargest")
    assert parsed.value.reasoning_query.startswith("largest elements. Related: ")
    assert "smallest" in parsed.value.reasoning_query


def test_grades_are_relative_to_the_source(engine):
    source = {"query": TEXTS["heapq.nlargest"], "source_doc_id": "heapq.nlargest"}
    graded = {doc_id: ask(engine, "annotate", Grading, **source, doc_id=doc_id) for doc_id in TEXTS}
    assert graded["heapq.nlargest"].score == pytest.approx(1, abs=0.1)
    assert graded["heapq.nsmallest"].score > graded["os.remove"].score
    assert graded["heapq.nsmallest"].value.grade > graded["os.remove"].value.grade


def test_unknown_document_is_an_answer_with_an_error_not_an_exception(engine):
    parsed = ask(engine, "annotate", Grading, query="x", source_doc_id="nowhere", doc_id="os.remove")
    assert "nowhere" in parsed.reject_reason
