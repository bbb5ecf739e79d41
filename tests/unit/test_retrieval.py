import math
from dataclasses import dataclass
from types import SimpleNamespace

import faiss
import numpy as np
import pyarrow as pa
import pytest

from reasonembed import schemas
from reasonembed.config import Index
from reasonembed.errors import UserError
from reasonembed.ids import text_id
from reasonembed.retrieval.bm25 import Bm25, analyse, pieces
from reasonembed.retrieval.collection import build_collections
from reasonembed.retrieval.exact import ExactScores
from reasonembed.retrieval.faiss_index import ShardedIndex, build_index, open_index
from reasonembed.retrieval.fusion import fuse, top_k


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


def test_words_are_those_of_lucenes_english_analyzer():
    """What Lucene 8.7's EnglishAnalyzer gives for these texts; whole corpora were compared too: benchmarks/bm25.py."""
    for text, words in {
        "The cat's whiskers weren't trimmed": "cat whisker weren't trim",
        "env.out.print(U8.max_value())": "env.out.print u8 max_valu",
        "Version 3.14 costs 1,000.50 dollars; see foo_bar": "version 3.14 cost 1,000.50 dollar see foo_bar",
        "well-known: the s and Us of possibly studied morphology": "well known s us possibl studi morpholog",
        "fun isPrime(num: USize): bool => __init__": "fun isprim num usiz bool __init__",
    }.items():
        assert analyse([text]) == [words.split()], text


def test_names_fall_into_pieces_where_questions_are_matched_with_documents():
    assert pieces(["os.path.join keeps a file's name"]) == [["os", "path", "join", "keep", "file", "name"]]
    texts = ["os.path.join glues", "os.remove deletes"]
    assert Bm25(texts, "pieces").scores("join a path").argmax() == 0
    assert not Bm25(texts).scores("join a path").any()


def test_bm25_weights_a_query_as_it_weights_a_document():
    texts = ["red red fox", "red hen", "blue hen sleeps long", "grey goose"]
    query = "red red red hen goose goose long unheard"
    documents, [asked] = analyse(texts), analyse([query])
    mean = sum(map(len, documents)) / len(documents)

    def weight(word, text):
        having = sum(word in document for document in documents)
        idf = math.log(1 + (len(texts) - having + 0.5) / (having + 0.5))
        return idf * text.count(word) / (text.count(word) + 0.9 * (1 - 0.4 + 0.4 * len(text) / mean))

    known = [word for word in set(asked) if any(word in document for document in documents)]
    plain = [sum(asked.count(w) * weight(w, d) for w in known) for d in documents]
    both = [sum(weight(w, asked) * weight(w, d) for w in known) for d in documents]
    assert Bm25(texts).scores(query) == pytest.approx(plain, rel=1e-5)
    assert Bm25(texts).scores(query, "bm25") == pytest.approx(both, rel=1e-5)


def test_copies_of_a_document_tie_to_the_last_bit_wherever_they_stand():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 48)).astype(np.float32)
    vectors[[17, 133, 299]] = vectors[5]
    texts = [f"text {n}" for n in range(300)]
    for n in (17, 133, 299):
        texts[n] = texts[5]
    queries = rng.normal(size=(7, 48)).astype(np.float32)
    scores = ExactScores(vectors, texts)(queries)
    assert scores == pytest.approx(queries @ vectors.T, abs=1e-5)
    assert (scores[:, [17, 133, 299]] == scores[:, [5]]).all()


def test_exact_scores_come_in_blocks(monkeypatch):
    monkeypatch.setattr("reasonembed.retrieval.exact.DOCUMENTS_AT_A_TIME", 7)
    rng = np.random.default_rng(0)
    vectors, queries = rng.normal(size=(30, 8)).astype(np.float32), rng.normal(size=(3, 8)).astype(np.float32)
    assert ExactScores(vectors, [str(n) for n in range(30)])(queries) == pytest.approx(queries @ vectors.T, abs=1e-5)


def embeddings(*rows):
    return pa.table([[text_id(text) for text, _ in rows], [vector for _, vector in rows]], schema=schemas.EMBEDDINGS)


def test_embeddings_that_cannot_be_searched_are_told_in_one_line():
    corpus = pa.table([["t", "t"], ["a", "b"], ["", ""], ["one", "two"]], schema=schemas.CORPUS)
    good = embeddings(("two", [0.0, 1.0]), ("one", [1.0, 0.0]))
    assert build_collections(corpus, good)["t"].vectors.tolist() == [[1, 0], [0, 1]]
    with pytest.raises(UserError, match="holds NaN or infinity; remove"):
        build_collections(corpus, embeddings(("two", [0.0, 1.0]), ("one", [float("nan"), 0.0])))
    with pytest.raises(UserError, match="have 2 and 3 dimensions"):
        build_collections(corpus, embeddings(("two", [0.0, 1.0]), ("one", [1.0, 0.0, 0.0])))


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(0)
    found = rng.normal(size=(3000, 16)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def opened(vectors, folder, settings):
    for number, part in enumerate(np.array_split(vectors, settings.shards)):
        build_index(part, settings, 0, folder / f"{number}")
    return ShardedIndex([open_index(folder / f"{number}") for number in range(settings.shards)], settings)


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_a_flat_index_is_exact_in_one_part_or_several(vectors, tmp_path, shards):
    index = opened(vectors, tmp_path, Index(shards=shards))
    scores, positions = index.search(vectors[:5], 10)
    exact = vectors[:5] @ vectors.T
    assert positions.tolist() == np.argsort(-exact, axis=1)[:, :10].tolist()
    assert scores == pytest.approx(np.sort(exact, axis=1)[:, ::-1][:, :10], abs=1e-5)
    _, positions = index.search(vectors[:1], 10, np.isin(np.arange(3000), [3, 50, 2500]))
    assert set(positions[0].tolist()) == {3, 50, 2500, -1}
    assert index.search(vectors[:1], 5000)[1].shape == (1, 3000)


@pytest.mark.parametrize(("kind", "least"), [("ivf", 0.6), ("hnsw", 0.95), ("ivf-pq", 0.4)])
def test_other_indexes_find_most_of_it_and_more_when_they_look_further(vectors, tmp_path, kind, least):
    exact = np.argsort(-(vectors[:100] @ vectors.T), axis=1)[:, :10]

    def recall(**far):
        settings = Index(kind=kind, shards=2, pq_bytes=9, **far)
        found = opened(vectors, tmp_path, settings).search(vectors[:100], 10)[1]
        return np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, found, strict=True)])

    near, far = recall(probes=1, ef_search=10), recall(probes=1000, ef_search=500)
    assert least <= far
    assert near < far
    index = opened(vectors, tmp_path, Index(kind=kind, probes=1000, pq_bytes=8))
    assert set(index.search(vectors[:1], 3, np.isin(np.arange(len(index)), [7, 9]))[1][0].tolist()) == {7, 9, -1}


def test_codes_need_documents_to_be_learnt_from(vectors, tmp_path):
    with pytest.raises(UserError, match="a shard has 100 documents only"):
        build_index(vectors[:100], Index(kind="ivf-pq"), 0, tmp_path / "i")


@pytest.fixture
def pretended_gpu(monkeypatch):
    """FAISS with a GPU that is none, and refuses what FAISS's kernels refuse; returns what was searched there."""
    searched = []

    @dataclass
    class OnGpu:
        index: faiss.Index
        options: object

        def __getattr__(self, name):
            return getattr(self.index, name)

        def search(self, queries, k, params=None):
            assert k <= 2048
            assert params is None or (params.sel is None and params.nprobe <= 2048)
            assert params is None or not isinstance(self.index, faiss.IndexFlat)
            searched.append(k)
            return self.index.search(queries, k, params=params)

    monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(faiss, "GpuClonerOptions", SimpleNamespace, raising=False)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1, raising=False)
    clone = lambda resources, device, index, options: OnGpu(index, options)  # noqa: E731
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", clone, raising=False)
    monkeypatch.setattr(faiss, "index_gpu_to_cpu", lambda there: there.index, raising=False)
    return searched


@pytest.mark.parametrize("kind", ["flat", "ivf", "ivf-pq"])
def test_on_a_gpu_is_searched_what_can_be_and_the_rest_finds_the_same(vectors, tmp_path, pretended_gpu, kind):
    settings = Index(kind=kind, probes=3, pq_bytes=8)
    build_index(vectors, settings, 0, tmp_path / "cpu")
    build_index(vectors, settings, 0, tmp_path / "cuda", "cuda")
    assert (tmp_path / "cpu").read_bytes() == (tmp_path / "cuda").read_bytes()
    there = ShardedIndex([open_index(tmp_path / "cuda", "cuda")], settings)
    here = ShardedIndex([open_index(tmp_path / "cpu")], settings)
    for k, allowed, on_gpu in ((10, None, True), (2500, None, False), (5, np.arange(3000) % 7 == 0, False)):
        pretended_gpu.clear()
        found, expected = (index.search(vectors[:4], k, allowed) for index in (there, here))
        assert [part.tolist() for part in found] == [part.tolist() for part in expected]
        assert pretended_gpu == ([k] if on_gpu else [])


def test_a_gpu_that_faiss_cannot_use_is_told_in_one_line(vectors, tmp_path, monkeypatch):
    build_index(vectors, Index(), 0, tmp_path / "flat")
    build_index(vectors, Index(kind="hnsw"), 0, tmp_path / "hnsw")
    with pytest.raises(UserError, match="install faiss-gpu-cu12 instead of faiss-cpu"):
        open_index(tmp_path / "flat", "cuda")
    with pytest.raises(UserError, match="hnsw cannot be on a GPU"):
        open_index(tmp_path / "hnsw", "cuda")
    monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0, raising=False)
    with pytest.raises(UserError, match="FAISS sees none"):
        build_index(vectors, Index(kind="ivf"), 0, tmp_path / "ivf", "cuda")
