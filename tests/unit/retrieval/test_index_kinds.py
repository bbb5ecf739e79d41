from typing import get_args

import numpy as np
import pytest
from vector_data import unit_vectors

from reasonembed.config import Index
from reasonembed.errors import UserError
from reasonembed.retrieval.index_kinds import INDEX_KINDS, build_index, open_index


def test_the_registry_has_every_kind_of_the_configuration():
    assert set(INDEX_KINDS) == set(get_args(Index.model_fields["kind"].annotation))


@pytest.mark.parametrize("kind", INDEX_KINDS)
def test_every_kind_keeps_its_contract(tmp_path, kind):
    vectors = unit_vectors()
    settings = Index.model_validate({"kind": kind, "probes": 1000, "ef_search": 500, "pq_bytes": 16})
    build_index(vectors.astype(np.float64), settings, 0, tmp_path / "index")
    build_index(vectors, settings, 0, tmp_path / "again")
    index = open_index(tmp_path / "index", settings)
    assert (len(index), index.dimension) == (3000, 16)
    scores, positions = index.search(vectors[:7], 5)
    assert (scores.shape, scores.dtype, positions.shape, positions.dtype) == ((7, 5), np.float32, (7, 5), np.int64)
    assert positions[:, 0].tolist() == list(range(7))
    assert (np.diff(scores, axis=1) <= 0).all()
    assert [part.tolist() for part in open_index(tmp_path / "again", settings).search(vectors[:7], 5)] == [
        scores.tolist(),
        positions.tolist(),
    ]
    allowed = np.isin(np.arange(3000), [4, 1000, 2999])
    assert set(index.search(vectors[4:5], 5, allowed)[1][0].tolist()) == {4, 1000, 2999, -1}
    assert set(index.search(vectors[:1], 2, np.zeros(3000, bool))[1][0].tolist()) == {-1}
    built = INDEX_KINDS[kind].build(vectors, settings, 0, "cpu")
    assert built.search(vectors[:7], 5)[1].tolist() == positions.tolist()
    built.save(tmp_path / "saved")
    assert (tmp_path / "saved").read_bytes() == (tmp_path / "again").read_bytes()


def test_codes_need_enough_documents_to_learn_from(tmp_path):
    with pytest.raises(UserError, match="a shard has only 100"):
        build_index(unit_vectors()[:100], Index(kind="ivf-pq"), 0, tmp_path / "i")
