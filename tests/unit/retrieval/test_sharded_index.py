import numpy as np
import pytest
from vector_data import built_index, unit_vectors

from reasonembed.config import Index
from reasonembed.retrieval.index_files import INDEX_FILE, shard_folder
from reasonembed.retrieval.index_kinds import build_index
from reasonembed.retrieval.sharded_index import open_shards


@pytest.fixture(scope="module")
def vectors():
    return unit_vectors()


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_a_flat_index_is_exact_with_any_number_of_shards(vectors, tmp_path, shards):
    index = built_index(vectors, tmp_path, Index(shards=shards))
    scores, positions = index.search(vectors[:5], 10)
    exact = vectors[:5] @ vectors.T
    assert positions.tolist() == np.argsort(-exact, axis=1)[:, :10].tolist()
    assert scores == pytest.approx(np.sort(exact, axis=1)[:, ::-1][:, :10], abs=1e-5)
    _, positions = index.search(vectors[:1], 10, np.isin(np.arange(3000), [3, 50, 2500]))
    assert set(positions[0].tolist()) == {3, 50, 2500, -1}
    assert index.search(vectors[:1], 5000)[1].shape == (1, 3000)
    assert (len(index), index.dimension) == (3000, 16)


def test_the_shards_of_an_artifact_are_opened_in_order(vectors, tmp_path):
    for number, shard in enumerate(np.array_split(vectors, 11)):
        folder = tmp_path / shard_folder(number)
        folder.mkdir()
        build_index(shard, Index(), 0, folder / INDEX_FILE)
    _, positions = open_shards(str(tmp_path), Index(shards=11)).search(vectors[::500], 1)
    assert positions[:, 0].tolist() == list(range(0, 3000, 500))
