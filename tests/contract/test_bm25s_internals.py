"""The layout of bm25s' index, which ``retrieval/bm25s_weights.py`` relies on and bm25s does not document.

These tests hold for bm25s==0.3.16. When that pin changes and one of them fails, adapt ``bm25s_weights.py``.
"""

import math
from importlib.metadata import version

import bm25s
import numpy as np
import pytest

from reasonembed.retrieval.bm25s_weights import token_weights

TOKENS = [["red", "red", "fox"], ["red", "hen"], [], ["blue", "hen", "sleeps", "long"], ["grey", "goose"]]


def test_the_tests_are_for_the_installed_version():
    assert version("bm25s") == "0.3.16"


def test_every_weight_is_that_of_its_token_and_document():
    matrix = token_weights(TOKENS, 0.9, 0.4)
    assert (matrix.weights.dtype, matrix.documents.dtype) == (np.float32, np.int32)
    assert set(matrix.vocabulary) == {token for tokens in TOKENS for token in tokens}
    assert matrix.starts[0] == 0
    assert matrix.starts[-1] == len(matrix.weights) == len(matrix.documents)
    mean_length = sum(map(len, TOKENS)) / len(TOKENS)
    for token, column in matrix.vocabulary.items():
        entries = slice(matrix.starts[column], matrix.starts[column + 1])
        documents = [number for number, tokens in enumerate(TOKENS) if token in tokens]
        assert matrix.documents[entries].tolist() == documents
        idf = math.log(1 + (len(TOKENS) - len(documents) + 0.5) / (len(documents) + 0.5))
        for document, weight in zip(documents, matrix.weights[entries], strict=True):
            count, length = TOKENS[document].count(token), len(TOKENS[document])
            expected = idf * count / (count + 0.9 * (1 - 0.4 + 0.4 * length / mean_length))
            assert weight == pytest.approx(expected, rel=1e-6)


def test_sums_of_weights_are_the_scores_of_bm25s():
    rng = np.random.default_rng(0)
    tokens = [[f"w{n}" for n in rng.zipf(1.3, size=rng.integers(1, 60)) % 500] for _ in range(200)]
    matrix = token_weights(tokens, 0.9, 0.4)
    model = bm25s.BM25(k1=0.9, b=0.4, method="lucene")
    model.index(tokens, show_progress=False)
    for query in tokens[:20]:
        scores = np.zeros(len(tokens), np.float32)
        for token in query:
            column = matrix.vocabulary[token]
            entries = slice(matrix.starts[column], matrix.starts[column + 1])
            scores[matrix.documents[entries]] += matrix.weights[entries]
        assert np.array_equal(scores, model.get_scores(query))


def test_documents_without_tokens_have_no_weights():
    matrix = token_weights([[], []], 0.9, 0.4)
    assert (len(matrix.vocabulary), len(matrix.weights), matrix.starts.tolist()) == (0, 0, [0])
