import math

import numpy as np
import pytest

from reasonembed.retrieval.bm25 import Bm25
from reasonembed.retrieval.text_analysis import lucene_tokens


def test_the_document_that_shares_words_scores_highest():
    bm25 = Bm25(["keep the largest items", "delete a file", "the the the"])
    assert bm25.scores("largest item").argmax() == 0
    assert bm25.scores("unheard of") == pytest.approx([0, 0, 0])
    assert Bm25(["", "the"]).scores("anything") == pytest.approx([0, 0])


def test_split_names_match_the_words_of_a_question():
    texts = ["os.path.join glues", "os.remove deletes"]
    assert Bm25(texts, "split-names").scores("join a path").argmax() == 0
    assert not Bm25(texts).scores("join a path").any()


def test_both_weightings_of_a_query_equal_the_formula():
    texts = ["red red fox", "red hen", "blue hen sleeps long", "grey goose"]
    query = "red red red hen goose goose long unheard"
    documents, [tokens] = lucene_tokens(texts), lucene_tokens([query])
    mean_length = sum(map(len, documents)) / len(documents)

    def weight(token, text):
        frequency = sum(token in document for document in documents)
        idf = math.log(1 + (len(texts) - frequency + 0.5) / (frequency + 0.5))
        return idf * text.count(token) / (text.count(token) + 0.9 * (1 - 0.4 + 0.4 * len(text) / mean_length))

    known = [token for token in set(tokens) if any(token in document for document in documents)]
    by_count = [sum(tokens.count(t) * weight(t, d) for t in known) for d in documents]
    by_bm25 = [sum(weight(t, tokens) * weight(t, d) for t in known) for d in documents]
    assert Bm25(texts).scores(query) == pytest.approx(by_count, rel=1e-5)
    assert Bm25(texts).scores(query, "bm25") == pytest.approx(by_bm25, rel=1e-5)


def test_saved_parts_score_as_the_whole_does(tmp_path):
    texts = ["red fox", "red hen", "blue hen", "grey goose", "", "red goose"]
    whole = Bm25(texts)
    bounds = [(0, 2), (2, 5), (5, 6)]
    for start, end in bounds:
        whole.save(tmp_path / str(start), start, end)
    for query in ("red hen", "goose goose", "unheard", ""):
        parts = [Bm25.load(tmp_path / str(start)).scores(query) for start, _ in bounds]
        assert [len(part) for part in parts] == [2, 3, 1]
        assert np.array_equal(np.concatenate(parts), whole.scores(query))
    assert whole.scores("red hen").any()


def test_saved_weights_of_documents_without_words_score_zero(tmp_path):
    Bm25(["", "the"]).save(tmp_path, 0, 2)
    assert Bm25.load(tmp_path).scores("river").tolist() == [0, 0]
