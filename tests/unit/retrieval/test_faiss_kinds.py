import faiss
import numpy as np
import pytest
from vector_data import built_index, unit_vectors

from reasonembed.config import Index


@pytest.mark.parametrize(("kind", "least"), [("ivf", 0.6), ("hnsw", 0.95), ("ivf-pq", 0.4)])
def test_approximate_kinds_have_a_recall_that_grows_with_the_effort(tmp_path, kind, least):
    vectors = unit_vectors()
    exact = np.argsort(-(vectors[:100] @ vectors.T), axis=1)[:, :10]

    def recall(**effort):
        settings = Index(kind=kind, shards=2, pq_bytes=9, **effort)
        _, positions = built_index(vectors, tmp_path, settings).search(vectors[:100], 10)
        return np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, positions, strict=True)])

    low, high = recall(probes=1, ef_search=10), recall(probes=1000, ef_search=500)
    assert least <= high
    assert low < high
    index = built_index(vectors, tmp_path, Index(kind=kind, probes=1000, pq_bytes=8))
    assert set(index.search(vectors[:1], 3, np.isin(np.arange(len(index)), [7, 9]))[1][0].tolist()) == {7, 9, -1}


@pytest.mark.parametrize(("pq_bytes", "used"), [(64, 16), (9, 8), (3, 2)])
def test_codes_have_the_largest_size_that_divides_the_dimension(tmp_path, pq_bytes, used):
    built_index(unit_vectors(), tmp_path, Index(kind="ivf-pq", pq_bytes=pq_bytes))
    code_bytes = faiss.read_index(str(tmp_path / "0")).pq.M
    assert code_bytes == used


def test_the_number_of_lists_is_limited_by_the_training_vectors(tmp_path):
    for options, lists in (({}, 76), ({"lists": 5}, 5), ({"lists": 1000}, 76), ({"training_vectors": 400}, 10)):
        built_index(unit_vectors(), tmp_path, Index(kind="ivf", **options))
        assert faiss.read_index(str(tmp_path / "0")).nlist == lists
