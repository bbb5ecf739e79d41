"""Indexes of the pipeline's corpus: built in shards over Ray, named by a pointer, searched as the endpoint does."""

import asyncio
import json
import shutil

import numpy as np
import pytest
import ray

from reasonembed import artifacts
from reasonembed.config import Resources, load_config
from reasonembed.distributed.data import index_building as indexing
from reasonembed.embedder.model import Embedder
from reasonembed.errors import UserError
from reasonembed.pipeline.pipeline import Pipeline
from reasonembed.serving.index_shards import DocumentFilter, IndexShards
from reasonembed.serving.store import LocalStore, ShardedStore


@pytest.fixture(scope="module")
def build(finished):
    def run(*overrides):
        return Pipeline(load_config(finished.config, [*overrides]), announce=lambda text: None).index()

    yield run
    ray.shutdown()


def encoded(artifact, texts):
    return Embedder.load(artifact.record["config"]["model"]).encode(texts, 32)


QUERIES = ["ice and snow", "which page speaks of a bell?", "rain"]


def hits(artifact, parts, k, within=DocumentFilter()):  # noqa: B008
    """As the endpoint finds them, of an index in one process or dealt out to several."""
    store = ShardedStore([LocalStore(number, parts) for number in range(parts)])

    async def search():
        found = await store.dense(artifact.uri, encoded(artifact, QUERIES), k, within)
        found += [await store.lexical(artifact.uri, query, k, within) for query in QUERIES]
        documents = [await store.documents(artifact.uri, positions.tolist()) for positions, _ in found]
        return [
            [tuple(of[p].values()) for p in positions.tolist()]
            for (positions, _), of in zip(found, documents, strict=True)
        ]

    return asyncio.run(search())


def test_the_pipelines_index_says_how_well_it_finds_and_is_the_latest(finished, build):
    artifact = build()
    assert artifact.uri == finished.summary["artifacts"]["index"]
    figures = artifact.figures
    assert (figures["rows"], figures["dimension"], figures["shards"], figures["recall@10"]) == (64, 32, 1, 1.0)
    latest = json.loads((finished.root / "index" / "latest").read_text())
    assert latest == {"version": artifact.fingerprint, "uri": artifact.uri}
    other = build("index.kind=hnsw")
    assert other.figures["recall@10"] > 0.9
    assert json.loads((finished.root / "index" / "latest").read_text())["version"] == other.fingerprint
    assert build().uri == artifact.uri


def test_shards_return_what_one_returns_in_one_process_or_several(finished, build):
    one, three = build(), build("index.shards=3")
    assert three.figures["shards"] == 3
    assert three.figures["recall@10"] == 1
    assert len(three.parquet("shard-")) == 3
    few = DocumentFilter(None, ("physics/cold 0", "nature/sound 1"))
    for arguments in ((10,), (70,), (5, DocumentFilter("nature")), (5, few), (5, DocumentFilter("nothing"))):
        expected = hits(one, 1, *arguments)
        assert any(expected) == (arguments[-1] != DocumentFilter("nothing"))
        for parts in (1, 2, 3):
            assert hits(three, parts, *arguments) == expected
    with pytest.raises(UserError, match=r"has 1 shards, which cannot be dealt out to 2 parts"):
        IndexShards(one, 0, 2)


def test_an_index_without_words_says_so(finished, build):
    silent = IndexShards(build("index.bm25=false"))
    assert len(silent) == 64
    with pytest.raises(UserError, match=r"built with index\.bm25=false"):
        silent.lexical("rain", 3)


def test_a_damaged_file_is_noticed_before_it_answers(finished, build, tmp_path):
    place = tmp_path / "index"
    shutil.copytree(build().uri, place)
    file = place / "shard-00000" / "index.faiss"
    file.write_bytes(file.read_bytes()[:-4] + b"\0\1\2\3")
    with pytest.raises(UserError, match=r"shard-00000/index\.faiss is not what its record says"):
        IndexShards(artifacts.load(str(place)))


def test_an_interrupted_build_does_not_build_finished_shards_again(finished, build, monkeypatch):
    first = build("index.shards=2", "index.recall_sample=7")
    built = []
    monkeypatch.setattr(indexing, "run_all", lambda function, calls, place: built.extend(shard for _, shard in calls))
    job = indexing.IndexJob(
        first.input("corpus"),
        first.input("embeddings"),
        load_config(finished.config, ["index.shards=2", "index.recall_sample=7"]).index,
        42,
        first.uri,
        Resources(),
    )
    (finished.root / first.uri / ".work").mkdir()
    (finished.root / first.uri / ".work" / "shard-00000.done").touch()
    again = indexing.build_served_index(job)
    assert built == [1]
    assert again == dict(first.figures)


def test_vectors_of_a_shard_are_those_of_its_documents(finished, build):
    index = build()
    job = indexing.IndexJob(
        index.input("corpus"), index.input("embeddings"), load_config(finished.config).index, 42, index.uri, Resources()
    )
    documents = job.documents()
    vectors = job.vectors(documents)
    expected = encoded(index, documents["text"].to_pylist())
    assert np.abs(vectors - expected).max() < 1e-5
    assert documents["task"].to_pylist() == sorted(documents["task"].to_pylist())
