import re
from collections import Counter

import pytest

from reasonembed import schemas
from reasonembed.corpora import pydocs, read_corpus, read_questions
from reasonembed.evaluation.metrics import means, per_question
from reasonembed.evaluation.ranking import bm25_scorer, rank_questions
from reasonembed.ids import normalised_text
from reasonembed.retrieval.collection import build_collections


@pytest.fixture(scope="module")
def corpus():
    return read_corpus("pydocs")


def test_the_corpus_has_known_ids_and_no_text_twice(corpus):
    assert corpus.schema == schemas.CORPUS
    assert corpus.num_rows >= 3000
    assert {"heapq.nlargest", "os.path.join", "random.sample", "topic/with"} <= set(corpus["doc_id"].to_pylist())
    texts = Counter(normalised_text(text) for text in corpus["text"].to_pylist())
    assert texts.most_common(1)[0][1] == 1


def test_the_corpus_is_the_same_every_time(corpus):
    assert read_corpus("pydocs").equals(corpus)


def test_no_document_contains_a_memory_address(corpus):
    for row in corpus.to_pylist():
        assert not re.search(r"at 0x[0-9a-f]{6,}", row["title"] + row["text"]), row["doc_id"]


def test_questions_of_both_splits(corpus):
    dev, test = (read_questions("pydocs", split, corpus) for split in ("dev", "test"))
    ids = dev["query_id"].to_pylist() + test["query_id"].to_pylist()
    assert len(ids) == len(set(ids)) >= 120
    assert set(dev["task"].to_pylist()) == set(test["task"].to_pylist()) == set(pydocs.TASKS)
    assert any(row["excluded_ids"] for row in test.to_pylist())


def test_gold_ids_of_another_python_are_logged_and_left_out(corpus, caplog):
    names = {"heapq.nlargest", "heapq.heappushpop"}
    small = corpus.filter([doc_id not in names for doc_id in corpus["doc_id"].to_pylist()])
    rows = read_questions("pydocs", "dev", small).to_pylist()
    assert "heapq.nlargest" in caplog.text
    assert next(row for row in rows if row["query_id"] == "data-01")["gold_ids"] == ["heapq.heapreplace"]


def test_questions_do_not_name_their_answers():
    """No question contains a word of the last part of a gold id: its author does not know the name of the answer."""
    leaks = []
    for question in pydocs.all_questions():
        words = set(re.findall(r"[a-z]+", question["query"].lower()))
        for doc_id in question["gold_ids"]:
            last = re.split(r"[./]", doc_id)[-1]
            parts = {p.lower() for p in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", last) if len(p) > 3}
            if parts & words:
                leaks.append((question["id"], doc_id, parts & words))
    assert not leaks


def test_bm25_alone_has_a_low_score(corpus):
    collections = build_collections(corpus)
    for split in ("dev", "test"):
        questions = read_questions("pydocs", split, corpus)
        run = rank_questions(questions, iter(collections.items()), bm25_scorer("count"), lambda row: row["query"])
        assert means(per_question(questions, run))["average"]["ndcg@10"] < 0.27
