from dataclasses import dataclass
from types import SimpleNamespace

import faiss
import numpy as np
import pytest
from vector_data import unit_vectors

from reasonembed.config import Index
from reasonembed.errors import UserError
from reasonembed.retrieval.index_kinds import build_index, open_index


@pytest.fixture(scope="module")
def vectors():
    return unit_vectors()


@pytest.fixture
def fake_gpu(monkeypatch):
    """FAISS with a simulated GPU that rejects what FAISS's kernels reject. Its attributes list what it was used for."""
    log = SimpleNamespace(searches=[], half_precision=[])

    @dataclass
    class FakeGpuIndex:
        index: faiss.Index
        options: object

        def __getattr__(self, name):
            return getattr(self.index, name)

        def search(self, queries, k, params=None):
            assert k <= 2048
            assert params is None or (params.sel is None and params.nprobe <= 2048)
            assert params is None or not isinstance(self.index, faiss.IndexFlat)
            log.searches.append(k)
            return self.index.search(queries, k, params=params)

    def index_cpu_to_gpu(resources, device, index, options):
        log.half_precision.append(options.useFloat16)
        return FakeGpuIndex(index, options)

    monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(faiss, "GpuClonerOptions", SimpleNamespace, raising=False)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", index_cpu_to_gpu, raising=False)
    monkeypatch.setattr(faiss, "index_gpu_to_cpu", lambda gpu_index: gpu_index.index, raising=False)
    return log


@pytest.mark.parametrize("kind", ["flat", "ivf", "ivf-pq"])
def test_the_gpu_answers_what_its_kernels_can_and_results_are_the_same(vectors, tmp_path, fake_gpu, kind):
    settings = Index(kind=kind, probes=3, pq_bytes=8)
    build_index(vectors, settings, 0, tmp_path / "cpu")
    build_index(vectors, settings, 0, tmp_path / "cuda", "cuda")
    assert (tmp_path / "cpu").read_bytes() == (tmp_path / "cuda").read_bytes()
    assert len(fake_gpu.half_precision) == (0 if kind == "flat" else 1), "a flat index is built on the CPU"
    on_gpu = open_index(tmp_path / "cuda", settings, "cuda")
    on_cpu = open_index(tmp_path / "cpu", settings)
    for k, allowed, uses_gpu in ((10, None, True), (2500, None, False), (5, np.arange(3000) % 7 == 0, False)):
        fake_gpu.searches.clear()
        results, expected = (index.search(vectors[:4], k, allowed) for index in (on_gpu, on_cpu))
        assert [part.tolist() for part in results] == [part.tolist() for part in expected]
        assert fake_gpu.searches == ([k] if uses_gpu else [])
    assert set(fake_gpu.half_precision) == {kind == "ivf-pq"}


def test_more_probes_than_the_kernels_support_are_searched_on_the_cpu(vectors, tmp_path, fake_gpu):
    settings = Index(kind="ivf", probes=2049)
    build_index(vectors, settings, 0, tmp_path / "ivf")
    assert open_index(tmp_path / "ivf", settings, "cuda").search(vectors[:1], 1)[1].tolist() == [[0]]
    assert fake_gpu.searches == []


def test_a_gpu_that_faiss_cannot_use_is_an_error_in_one_line(vectors, tmp_path, monkeypatch):
    build_index(vectors, Index(), 0, tmp_path / "flat")
    build_index(vectors, Index(kind="hnsw"), 0, tmp_path / "hnsw")
    with pytest.raises(UserError, match="install faiss-gpu-cu12 instead of faiss-cpu"):
        open_index(tmp_path / "flat", Index(), "cuda")
    with pytest.raises(UserError, match="hnsw cannot be on a GPU"):
        open_index(tmp_path / "hnsw", Index(kind="hnsw"), "cuda")
    monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0, raising=False)
    with pytest.raises(UserError, match="FAISS sees none"):
        build_index(vectors, Index(kind="ivf"), 0, tmp_path / "ivf", "cuda")
