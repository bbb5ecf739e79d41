import numpy as np

from reasonembed.serving.index_shards import merge_rankings


def test_merged_rankings_put_equal_scores_in_order_of_position():
    first = (np.array([5, 1]), np.array([0.9, 0.5], np.float32))
    second = (np.array([12, 10, 11]), np.array([0.95, 0.5, 0.1], np.float32))
    positions, scores = merge_rankings([second, first], 4)
    assert positions.tolist() == [12, 5, 1, 10]
    assert scores.tolist() == np.float32([0.95, 0.9, 0.5, 0.5]).tolist()
