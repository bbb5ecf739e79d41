"""Indexes of the pipeline's corpus: built in shards over Ray, named by a pointer, searched as the endpoint does."""

import json

import numpy as np
import pytest
import ray

from reasonembed import artifacts
from reasonembed.config import load_config
from reasonembed.distributed import indexing
from reasonembed.distributed.pipeline import Pipeline
from reasonembed.serving.searcher import Searcher


@pytest.fixture(scope="module")
def build(finished):
    def run(*overrides):
        return Pipeline(load_config(finished.config, [*overrides]), announce=lambda text: None).index()

    yield run
    ray.shutdown()


def hits(artifact, *arguments):
    searcher = Searcher(artifact.uri)
    vectors = searcher.encode(["ice and snow", "which page speaks of a bell?", "rain"])
    return [[(hit.doc_id, hit.task, hit.text) for hit in row] for row in searcher.search(vectors, *arguments)]


def test_the_pipelines_index_says_how_well_it_finds_and_is_the_latest(finished, build):
    artifact = artifacts.load(finished.summary["artifacts"]["index"])
    figures = artifact.figures
    assert (figures["rows"], figures["dimension"], figures["shards"], figures["recall@10"]) == (64, 32, 1, 1.0)
    latest = json.loads((finished.root / "index" / "latest").read_text())
    assert latest == {"version": artifact.fingerprint, "uri": artifact.uri}
    other = build("index.kind=hnsw")
    assert other.figures["recall@10"] > 0.9
    assert json.loads((finished.root / "index" / "latest").read_text())["version"] == other.fingerprint
    assert build().uri == artifact.uri


def test_two_shards_return_what_one_returns(finished, build):
    one, three = build(), build("index.shards=3")
    assert three.figures["shards"] == 3
    assert three.figures["recall@10"] == 1
    assert len(three.parquet("shard-")) == 3
    for arguments in ((10,), (70,), (5, "nature"), (5, None, ["physics/cold 0", "nature/sound 1"])):
        assert hits(three, *arguments) == hits(one, *arguments)


def test_an_interrupted_build_does_not_build_finished_shards_again(finished, build, monkeypatch):
    first = build("index.shards=2", "index.recall_sample=7")
    built = []
    monkeypatch.setattr(indexing, "run_all", lambda function, calls: built.extend(shard for _, shard in calls))
    job = indexing.IndexJob(
        first.input("corpus"),
        first.input("embeddings"),
        load_config(finished.config, ["index.shards=2", "index.recall_sample=7"]).index,
        42,
        first.uri,
    )
    (finished.root / first.uri / ".work").mkdir()
    (finished.root / first.uri / ".work" / "shard-00000.done").touch()
    again = indexing.build_served_index(job)
    assert built == [1]
    assert again == dict(first.figures)


def test_vectors_of_a_shard_are_those_of_its_documents(finished, build):
    index = build()
    job = indexing.IndexJob(
        index.input("corpus"), index.input("embeddings"), load_config(finished.config).index, 42, index.uri
    )
    documents = job.documents()
    searcher = Searcher(index.uri)
    vectors = job.vectors(documents)
    expected = searcher.encode(documents["text"].to_pylist())
    assert np.abs(vectors - expected).max() < 1e-5
    assert documents["task"].to_pylist() == sorted(documents["task"].to_pylist())
