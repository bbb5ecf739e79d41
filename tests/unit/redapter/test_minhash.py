import numpy as np
import pytest

from reasonembed.redapter.minhash import HASHES, minhash_signature, minhash_signatures


def similarity(a, b):
    return float(np.mean(minhash_signature(a) == minhash_signature(b)))


def test_signatures_estimate_the_jaccard_similarity_of_shingles():
    words = [f"word{n}" for n in range(200)]
    text, near, reverse = " ".join(words), " ".join([*words[:197], "x", "y", "z"]), " ".join(reversed(words))
    assert similarity(text, text.upper()) == 1
    assert similarity(text, near) == pytest.approx(195 / 201, abs=0.1)
    assert similarity(text, reverse) < 0.1
    assert minhash_signatures(["", "a"]).shape == (2, HASHES)
