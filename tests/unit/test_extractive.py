import json

import numpy as np
import pytest
from reasonembed.llm.parsing import GeneratedQuery, Judgement, ReasoningQuery, parse

from reasonembed.llm.extractive import ExtractiveEngine, extract_query
from reasonembed.llm.protocol import Answer, Request
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
    graded = {
        doc_id: ask(
            engine, "annotate", Judgement, query=TEXTS["heapq.nlargest"], source_doc_id="heapq.nlargest", doc_id=doc_id
        ).value
        for doc_id in TEXTS
    }
    assert graded["heapq.nlargest"].score == pytest.approx(1, abs=0.1)
    assert graded["heapq.nsmallest"].score > graded["os.remove"].score
    assert graded["heapq.nsmallest"].grade > graded["os.remove"].grade


def test_unknown_document_is_an_answer_with_an_error_not_an_exception(engine):
    parsed = ask(engine, "annotate", Judgement, query="x", source_doc_id="nowhere", doc_id="os.remove")
    assert "nowhere" in parsed.reject_reason


@pytest.mark.parametrize(
    "text",
    [
        "",
        "grade 5",
        '{"grade": 6, "score": 1.0, "rationale": ""}',
        '{"grade": 3, "rationale": ""}',
        '{"grade": "3", "score": 0.5, "rationale": ""}',
        '{"grade": 3, "score": 0.5, "rationale": "", "x": 1}',
    ],
)
def test_what_is_not_exactly_an_answer_is_rejected_with_its_text(text):
    parsed = parse(Answer(text=text), Judgement)
    assert parsed.value is None
    assert parsed.reject_reason.startswith("invalid answer")
    assert parsed.raw_answer == text


def test_engine_error_is_the_reason():
    assert parse(Answer(error="timeout"), Judgement).reject_reason == "timeout"
    assert parse(Answer(text=json.dumps({"grade": 3, "score": 0.5, "rationale": "r"})), Judgement).value.grade == 3
