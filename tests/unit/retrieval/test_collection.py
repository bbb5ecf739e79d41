import numpy as np
import pyarrow as pa
import pytest

from reasonembed import schemas
from reasonembed.errors import UserError
from reasonembed.ids import text_id
from reasonembed.retrieval.collection import Collection, build_collections


def embeddings(*rows):
    return pa.table([[text_id(text) for text, _ in rows], [vector for _, vector in rows]], schema=schemas.EMBEDDINGS)


def test_embeddings_that_cannot_be_searched_are_an_error_in_one_line():
    corpus = pa.table([["t", "t"], ["a", "b"], ["", ""], ["one", "two"]], schema=schemas.CORPUS)
    good = embeddings(("two", [0.0, 1.0]), ("one", [1.0, 0.0]))
    assert build_collections(corpus, good)["t"].vectors.tolist() == [[1, 0], [0, 1]]
    with pytest.raises(UserError, match="contains NaN or infinity; remove"):
        build_collections(corpus, embeddings(("two", [0.0, 1.0]), ("one", [float("nan"), 0.0])))
    with pytest.raises(UserError, match="have 2 and 3 dimensions"):
        build_collections(corpus, embeddings(("two", [0.0, 1.0]), ("one", [1.0, 0.0, 0.0])))


def test_collections_are_by_task_in_corpus_order():
    corpus = pa.table([["u", "t", "t"], ["c", "b", "a"], ["", "B", ""], ["3", "2", "1"]], schema=schemas.CORPUS)
    collections = build_collections(corpus)
    assert list(collections) == ["t", "u"]
    assert collections["t"].doc_ids == ["b", "a"]
    assert collections["t"].texts == ["B 2", "1"]
    assert collections["t"].vectors.shape == (2, 0)
    assert collections["t"].positions(["a", "unknown", "b"]).tolist() == [1, 0]
    with pytest.raises(KeyError):
        collections["t"].position("c")


def test_near_duplicates_are_equal_texts_and_close_vectors():
    vectors = np.array([[1, 0], [0, 1], [0.8, 0.6], [0, 1]], np.float32)
    collection = Collection(["a", "b", "c", "d"], ["one  text", "two", "three", "one text"], vectors)
    assert collection.near_duplicates("a", 0.9).tolist() == [0, 3]
    assert collection.near_duplicates("a", 0.7).tolist() == [0, 2, 3]
    without_vectors = Collection(collection.doc_ids, collection.texts, np.zeros((4, 0), np.float32))
    assert without_vectors.near_duplicates("d", 0.7).tolist() == [0, 3]


def test_hubness_is_the_mean_cosine_to_the_nearest_neighbours_above_average(monkeypatch):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(30, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    collection = Collection([str(n) for n in range(30)], [str(n) for n in range(30)], vectors)
    monkeypatch.setattr("reasonembed.retrieval.collection.BLOCK_ROWS", 7)
    cosines = vectors @ vectors.T
    density = [np.sort(np.delete(row, n))[-10:].mean() for n, row in enumerate(cosines)]
    assert collection.hubness == pytest.approx(np.array(density) - np.mean(density), abs=1e-6)


def test_words_of_few_documents_are_distinctive():
    texts = ["Common word", "common thing", *(f"common text{letter}" for letter in "abcdefghijklmnopqr")]
    collection = Collection([str(n) for n in range(20)], texts, np.zeros((20, 0), np.float32))
    assert collection.is_distinctive("word")
    assert collection.is_distinctive("unknown")
    assert not collection.is_distinctive("common")
    assert collection.idf("common") == pytest.approx(np.log(1 + 20 / 21))
