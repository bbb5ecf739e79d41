"""Indexes of the pipeline's corpus: built in shards on Ray, named by a pointer, searched as the endpoint does."""

import asyncio
import json
import shutil

import numpy as np
import pytest
import ray
from factories import load_pipeline

from reasonembed import artifacts, storage
from reasonembed.config import Resources, load_config
from reasonembed.distributed.data import index_building
from reasonembed.embedder.model import Embedder
from reasonembed.errors import UserError
from reasonembed.retrieval.index_job import IndexJob
from reasonembed.serving.index_shards import DocumentFilter, IndexShards
from reasonembed.serving.index_store import LocalStore, ShardedStore


@pytest.fixture(scope="module")
def build(pipeline_run):
    """A function that builds the index with overrides."""
    yield lambda *overrides: load_pipeline(pipeline_run.config, *overrides).run("index")
    ray.shutdown()


def encode_texts(artifact, texts):
    return Embedder.load(artifact.record["config"]["model"]).encode(texts, 32)


QUERIES = ["ice and snow", "which page speaks of a bell?", "rain"]


def search_index(artifact, processes, k, within=DocumentFilter()):  # noqa: B008
    """Searches as the endpoint does, with the index in one process or divided among several.

    Returns:
        For each of ``QUERIES``, first dense and then by BM25: the documents, best first.
    """
    store = ShardedStore([LocalStore(number, processes) for number in range(processes)])

    async def search():
        results = await store.search_dense(artifact.uri, encode_texts(artifact, QUERIES), k, within)
        results += [await store.search_bm25(artifact.uri, query, k, within) for query in QUERIES]
        rankings = []
        for positions, _ in results:
            documents = await store.documents(artifact.uri, positions.tolist())
            rankings.append([tuple(documents[position].values()) for position in positions.tolist()])
        return rankings

    return asyncio.run(search())


def test_the_index_records_its_recall_and_latest_names_the_newest(pipeline_run, build):
    artifact = build()
    assert artifact.uri == pipeline_run.summary["artifacts"]["index"]
    figures = artifact.figures
    assert (figures["rows"], figures["dimension"], figures["shards"], figures["recall@10"]) == (64, 32, 1, 1.0)
    latest = json.loads((pipeline_run.root / "index" / "latest").read_text())
    assert latest == {"version": artifact.fingerprint, "uri": artifact.uri}
    other = build("index.kind=hnsw")
    assert other.figures["recall@10"] > 0.9
    assert json.loads((pipeline_run.root / "index" / "latest").read_text())["version"] == other.fingerprint
    assert build().uri == artifact.uri


def test_shards_in_one_process_or_several_return_the_results_of_one_index(pipeline_run, build):
    one, three = build(), build("index.shards=3")
    assert three.figures["shards"] == 3
    assert three.figures["recall@10"] == 1
    assert len(three.parquet("shard-")) == 3
    few = DocumentFilter(None, ("physics/cold 0", "nature/sound 1"))
    for arguments in ((10,), (70,), (5, DocumentFilter("nature")), (5, few), (5, DocumentFilter("nothing"))):
        expected = search_index(one, 1, *arguments)
        assert any(expected) == (arguments[-1] != DocumentFilter("nothing"))
        for processes in (1, 2, 3):
            assert search_index(three, processes, *arguments) == expected
    with pytest.raises(UserError, match=r"has 1 shards, too few for 2 processes"):
        IndexShards(one, 0, 2)


def test_a_lexical_search_in_an_index_without_bm25_is_an_error(pipeline_run, build):
    dense_only = IndexShards(build("index.bm25=false"))
    assert len(dense_only) == 64
    with pytest.raises(UserError, match=r"built with index\.bm25=false"):
        dense_only.search_bm25("rain", 3)


def test_an_index_with_a_damaged_file_is_not_opened(pipeline_run, build, tmp_path):
    folder = tmp_path / "index"
    shutil.copytree(build().uri, folder)
    file = folder / "shard-00000" / "index.faiss"
    file.write_bytes(file.read_bytes()[:-4] + b"\0\1\2\3")
    with pytest.raises(UserError, match=r"shard-00000/index\.faiss is missing or differs from its record"):
        IndexShards(artifacts.load(str(folder)))


def test_a_resumed_build_skips_the_finished_shards(pipeline_run, build, monkeypatch, tmp_path):
    first = build("index.shards=2", "index.recall_sample=7")
    built = []
    monkeypatch.setattr(index_building, "run_all", lambda function, calls, _: built.extend(shard for _, shard in calls))
    scratch = tmp_path / "scratch"
    shutil.copytree(first.uri, scratch, ignore=shutil.ignore_patterns(artifacts.RECORD))
    (scratch / ".shard-00000.done").touch()
    job = IndexJob(
        first.input("corpus"),
        first.input("embeddings"),
        load_config(pipeline_run.config, ["index.shards=2", "index.recall_sample=7"]).index,
        42,
        str(scratch),
        Resources(),
    )
    figures = index_building.build_served_index(job, str(tmp_path / "data"))
    assert built == [1]
    assert figures == dict(first.figures)
    assert storage.list_files(str(tmp_path / "data")) == [entry.path for entry in first.files]


def test_the_vectors_of_a_shard_belong_to_its_documents(pipeline_run, build):
    index = build()
    job = IndexJob(
        index.input("corpus"),
        index.input("embeddings"),
        load_config(pipeline_run.config).index,
        42,
        index.uri,
        Resources(),
    )
    documents = job.documents()
    vectors = job.vectors(documents)
    expected = encode_texts(index, documents["text"].to_pylist())
    assert np.abs(vectors - expected).max() < 1e-5
    assert documents["task"].to_pylist() == sorted(documents["task"].to_pylist())
