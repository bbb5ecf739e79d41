import numpy as np
import pyarrow as pa
import pytest

from reasonembed import ids, schemas
from reasonembed.config import Mine
from reasonembed.remixer.mine import DenseRetriever, mine_candidates
from reasonembed.retrieval.collection import Collection


def one_query(text="words 0 here", source="d0"):
    row = {
        "query_id": "q",
        "task": "a",
        "instruction": "",
        "query": text,
        "source_doc_id": source,
        "generator": "g",
    }
    return pa.Table.from_pylist([row], schema=schemas.QUERIES)


@pytest.mark.parametrize("seed", range(20))
def test_the_source_its_copies_and_its_near_duplicates_are_never_candidates(seed):
    rng = np.random.default_rng(seed)
    texts = [f"words {n} here" for n in range(30)]
    texts[2] = " words  0 here"  # an exact copy except for white space, wherever its vector lies
    retrievers = []
    for number in range(2):
        vectors = rng.normal(size=(30, 8)).astype(np.float32)
        vectors[1 + 2 * number] = vectors[0] + 0.01 * rng.normal(size=8)  # a near-duplicate for this model only
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        collection = Collection([f"d{n}" for n in range(30)], texts, vectors)
        encode = lambda queries, vectors=vectors: np.repeat(vectors[:1], len(queries), axis=0)  # noqa: E731
        retrievers.append(DenseRetriever(f"m{number}", {"a": collection}, encode))
    candidates = mine_candidates(one_query(), retrievers, Mine(keep=25, near_duplicate=0.95))
    doc_ids = candidates["doc_id"].to_pylist()
    assert not {"d0", "d1", "d2", "d3"} & set(doc_ids)
    assert len(doc_ids) == len(set(doc_ids)) == 25
    assert candidates["rank"].to_pylist() == list(range(1, 26))
    assert candidates["pair_id"].to_pylist() == [ids.pair_id("q", doc_id) for doc_id in doc_ids]
    assert candidates["retriever"][0].as_py() == "bm25:0.5+m0:0.25+m1:0.25"


def test_several_dense_retrievers_are_averaged():
    texts = ["one", "two", "three", "source"]
    vectors = np.eye(4, dtype=np.float32)
    retrievers = [
        DenseRetriever(
            name,
            {"a": Collection(["d0", "d1", "d2", "d3"], texts, vectors)},
            lambda queries, scores=scores: np.array([scores] * len(queries), np.float32),
        )
        for name, scores in (("x", [1.0, 0.8, 0.0, 0.0]), ("y", [0.0, 0.9, 1.0, 0.0]))
    ]
    candidates = mine_candidates(one_query("nothing", "d3"), retrievers, Mine(keep=3, lexical_weight=0))
    assert candidates["doc_id"].to_pylist() == ["d1", "d0", "d2"]
    assert candidates["score"].to_pylist() == pytest.approx([0.85, 0.5, 0.5])
