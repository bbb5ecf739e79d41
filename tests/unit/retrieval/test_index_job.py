"""An index job without Ray: what its shards contain, and how its recall is measured."""

import numpy as np
import pyarrow as pa
import pytest
from artifact_files import write_artifact
from vector_data import unit_vectors

from reasonembed import schemas, storage
from reasonembed.config import Index, Resources
from reasonembed.ids import text_id
from reasonembed.retrieval.bm25 import Bm25
from reasonembed.retrieval.index_files import BM25_FOLDER, DOCUMENTS_FILE, INDEXED_DOCUMENTS
from reasonembed.retrieval.index_job import IndexJob, build_bm25, build_shard
from reasonembed.retrieval.index_recall import measure_index

ROWS = 300


@pytest.fixture
def make_job(tmp_path):
    """Makes jobs over a corpus of two tasks, in which one text occurs twice."""
    texts = [f"text {n}" for n in range(ROWS)]
    texts[7] = texts[3]
    tasks = ["b" if n % 3 else "a" for n in range(ROWS)]
    columns = [tasks, [f"d {n}" for n in range(ROWS)], [""] * ROWS, texts]
    corpus = write_artifact(tmp_path / "corpus", pa.table(columns, schema=schemas.CORPUS))
    distinct = list(dict.fromkeys(texts))
    vectors = unit_vectors()[: len(distinct)]
    rows = pa.table([[text_id(text) for text in distinct], vectors.tolist()], schema=schemas.EMBEDDINGS)
    embeddings = write_artifact(tmp_path / "encode", rows.slice(0, 120), rows.slice(120))

    def make(**settings):
        return IndexJob(corpus, embeddings, Index(**settings), 0, str(tmp_path / "index"), Resources())

    make.vector = dict(zip(distinct, vectors, strict=True))
    return make


def test_documents_are_sorted_by_task_and_have_their_own_vectors(make_job):
    job = make_job(shards=4)
    documents = job.documents()
    assert documents["task"].to_pylist() == sorted(documents["task"].to_pylist())
    assert documents["doc_id"].to_pylist()[:3] == ["d 0", "d 3", "d 6"]
    assert job.shard_bounds() == [0, 75, 150, 225, 300]
    assert pa.concat_tables([job.documents(shard) for shard in range(4)]).equals(documents)
    expected = np.stack([make_job.vector[text] for text in documents["text"].to_pylist()])
    assert np.array_equal(job.vectors(documents), expected)


def test_a_shard_has_its_index_its_documents_and_its_weights(make_job):
    job = make_job(shards=2)
    for shard in range(2):
        build_shard(job, shard)
    build_bm25(job)
    texts = job.documents()["text"].to_pylist()
    uri = storage.join(job.shard_uri(1), DOCUMENTS_FILE)
    assert storage.read_table([uri], INDEXED_DOCUMENTS).equals(job.documents(1))
    with storage.local_copy(job.shard_uri(1)) as folder:
        scores = Bm25.load(folder / BM25_FOLDER).scores("text 77")
    assert np.array_equal(scores, Bm25(texts).scores("text 77")[150:])


@pytest.mark.parametrize("shards", [1, 3])
def test_recall_is_that_of_the_results_against_exact_search(make_job, shards):
    job = make_job(shards=shards)
    for shard in range(shards):
        build_shard(job, shard)
    figures = measure_index(job)
    assert (figures["rows"], figures["dimension"], figures["shards"]) == (ROWS, 16, shards)
    assert figures["tasks"] == ["a", "b"]
    assert sum(figures["shard_rows"]) == ROWS
    assert figures["bytes"] > ROWS * 16 * 4
    assert figures["recall@10"] == 1


def test_recall_of_an_index_with_little_effort_is_below_one(make_job):
    job = make_job(kind="ivf", lists=7, probes=1, recall_sample=50)
    build_shard(job, 0)
    index_recall = measure_index(job)["recall@10"]
    more = make_job(kind="ivf", lists=7, probes=7, recall_sample=50)
    assert 0.1 < index_recall < 0.9
    assert measure_index(more)["recall@10"] == 1
