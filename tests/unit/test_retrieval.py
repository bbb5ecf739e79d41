import numpy as np
import pytest

from reasonembed.retrieval.bm25 import Bm25
from reasonembed.retrieval.faiss_index import build_index, open_index, search
from reasonembed.retrieval.ranking import fuse, top_k


def test_top_k_breaks_ties_by_position_and_excludes_before_the_cut():
    scores = np.array([1.0, 3.0, 3.0, 2.0, 3.0])
    assert top_k(scores, 2).tolist() == [1, 2]
    assert top_k(scores, 2, excluded=np.array([1, 2])).tolist() == [4, 3]
    assert top_k(scores, 9, excluded=np.array([0])).tolist() == [1, 2, 4, 3]
    assert top_k(scores, 0).tolist() == []


def test_fusion_ends_are_the_single_systems():
    dense, lexical = np.array([0.1, 0.5, 0.3]), np.array([9.0, 0.0, 3.0])
    assert fuse(dense, lexical, 0).argmax() == 1
    assert fuse(dense, lexical, 1).argmax() == 0
    assert fuse(dense, lexical, 0.5) == pytest.approx([0.5, 0.5, 0.25 + 1 / 6])
    assert fuse(dense, np.zeros(3), 0.5).argmax() == 1


def test_bm25():
    bm25 = Bm25(["keep the largest items", "delete a file", "the the the"])
    assert bm25.scores("largest item").argmax() == 0
    assert bm25.scores("unheard of") == pytest.approx([0, 0, 0])
    assert Bm25(["", "the"]).scores("anything") == pytest.approx([0, 0])


def test_flat_index_equals_the_inner_product(tmp_path):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(200, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    build_index(vectors, tmp_path / "i")
    index = open_index(tmp_path / "i")
    scores, positions = search(index, vectors[:5], 10)
    exact = vectors[:5] @ vectors.T
    assert positions.tolist() == np.argsort(-exact, axis=1)[:, :10].tolist()
    assert scores == pytest.approx(np.sort(exact, axis=1)[:, ::-1][:, :10], abs=1e-5)
    allowed = np.array([3, 50])
    assert set(search(index, vectors[:1], 10, allowed)[1][0].tolist()) == {3, 50, -1}
