import numpy as np
import pytest

from reasonembed.retrieval.fusion import fuse_ranked_lists, fuse_scores, top_k


def test_top_k_breaks_ties_by_position_and_excludes_before_the_cut_off():
    scores = np.array([1.0, 3.0, 3.0, 2.0, 3.0])
    assert top_k(scores, 2).tolist() == [1, 2]
    assert top_k(scores, 2, excluded=np.array([1, 2])).tolist() == [4, 3]
    assert top_k(scores, 9, excluded=np.array([0])).tolist() == [1, 2, 4, 3]
    assert top_k(scores, 0).tolist() == []


def test_weights_of_zero_and_one_give_the_single_systems():
    dense, lexical = np.array([0.1, 0.5, 0.3]), np.array([9.0, 0.0, 3.0])
    assert fuse_scores(dense, lexical, 0).argmax() == 1
    assert fuse_scores(dense, lexical, 1).argmax() == 0
    assert fuse_scores(dense, lexical, 0.5) == pytest.approx([0.5, 0.5, 0.25 + 1 / 6])
    assert fuse_scores(dense, np.zeros(3), 0.5).argmax() == 1


def test_ranked_lists_are_fused_by_scores_or_by_ranks():
    ids = [np.array(["x", "y", "z"], dtype=object), np.array(["y", "w"], dtype=object)]
    scores = [np.array([10.0, 5.0, 0.0]), np.array([0.9, 0.1])]
    ranked_lists = list(zip(ids, scores, strict=True))
    best, values = fuse_ranked_lists(ranked_lists, "minmax", [0.5, 0.5], 3)
    assert best.tolist() == ["y", "x", "z"]
    assert values == pytest.approx([0.75, 0.5, 0])
    best, values = fuse_ranked_lists(ranked_lists, "rrf", [1, 1], 2)
    assert best.tolist() == ["y", "x"]
    assert values == pytest.approx([1 / 62 + 1 / 61, 1 / 61])
    empty = (np.array([], dtype=object), np.zeros(0))
    assert fuse_ranked_lists([empty, ranked_lists[1]], "minmax", [1, 1], 9)[0].tolist() == ["y", "w"]
