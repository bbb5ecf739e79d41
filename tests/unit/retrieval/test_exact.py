import numpy as np
import pytest

from reasonembed.retrieval.exact import ExactScorer


def test_copies_of_a_document_tie_to_the_last_bit_at_any_position():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 48)).astype(np.float32)
    vectors[[17, 133, 299]] = vectors[5]
    texts = [f"text {n}" for n in range(300)]
    for n in (17, 133, 299):
        texts[n] = texts[5]
    queries = rng.normal(size=(7, 48)).astype(np.float32)
    scores = ExactScorer(vectors, texts)(queries)
    assert scores == pytest.approx(queries @ vectors.T, abs=1e-5)
    assert (scores[:, [17, 133, 299]] == scores[:, [5]]).all()


def test_scores_computed_in_blocks_are_complete(monkeypatch):
    monkeypatch.setattr("reasonembed.retrieval.exact.BLOCK_DOCUMENTS", 7)
    rng = np.random.default_rng(0)
    vectors, queries = rng.normal(size=(30, 8)).astype(np.float32), rng.normal(size=(3, 8)).astype(np.float32)
    assert ExactScorer(vectors, [str(n) for n in range(30)])(queries) == pytest.approx(queries @ vectors.T, abs=1e-5)
