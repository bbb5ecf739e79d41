"""The whole path through the real engines: what it leaves, and that nothing is done twice."""

import json
import time
from pathlib import Path

import pyarrow.dataset
import pytest
from sentence_transformers import SentenceTransformer

from reasonembed import artifacts, schemas

STAGES = [
    "corpus",
    "questions",
    "generate",
    "encode base",
    "rewrite",
    "mine",
    "annotate",
    "assemble",
    "batches",
    "train",
    "encode trained",
    "index",
    "rank bm25",
    "rank base",
    "rank trained",
    "evaluate bm25",
    "evaluate base",
    "evaluate trained",
]


def table(finished, stage, schema):
    return artifacts.load(finished.summary["artifacts"][stage]).table(schema)


def test_every_stage_left_an_artefact(finished):
    assert sorted(finished.summary["artifacts"]) == sorted(STAGES)
    for uri in finished.summary["artifacts"].values():
        artifact = artifacts.load(uri)
        assert artifact.files
        for entry in artifact.files:
            assert Path(uri, entry.path).stat().st_size == entry.size
        assert not Path(uri, artifacts.SCRATCH).exists()


def test_tables_keep_their_schemas_and_keys(finished):
    for stage, schema, key in (
        ("generate", schemas.QUERIES, "query_id"),
        ("rewrite", schemas.REWRITES, "query_id"),
        ("mine", schemas.CANDIDATES, "pair_id"),
        ("annotate", schemas.ANNOTATIONS, "pair_id"),
        ("assemble", schemas.TRAINING, "query_id"),
        ("encode base", schemas.EMBEDDINGS, "text_id"),
    ):
        rows = table(finished, stage, schema)
        keys = rows[key].to_pylist()
        assert len(keys) == len(set(keys)) > 0, stage


def test_no_judged_document_is_a_source_and_no_source_its_own_candidate(finished):
    queries = {r["query_id"]: r for r in table(finished, "generate", schemas.QUERIES).to_pylist()}
    judged = {
        d
        for r in table(finished, "questions", schemas.QUESTIONS).to_pylist()
        for d in r["gold_ids"] + r["excluded_ids"]
    }
    assert not judged & {r["source_doc_id"] for r in queries.values()}
    pairs = table(finished, "mine", schemas.CANDIDATES).to_pylist()
    assert all(queries[p["query_id"]]["source_doc_id"] != p["doc_id"] for p in pairs)
    assert {p["pair_id"] for p in pairs} == set(table(finished, "annotate", schemas.ANNOTATIONS)["pair_id"].to_pylist())


def test_summary_and_closing_line(finished):
    systems = finished.summary["systems"]
    assert set(systems) == {"bm25", "base", "trained"}
    for scores in systems.values():
        assert set(scores) == {"nature", "physics", "average"}
        assert scores["average"]["ndcg@10"] == pytest.approx(
            sum(scores[t]["ndcg@10"] for t in ("nature", "physics")) / 2, abs=1e-5
        )
    assert set(finished.summary["seconds"]) == set(STAGES)
    assert finished.result["stage"] == "pipeline"
    page = Path(finished.result["artifact"]).read_text()
    assert page.count("<svg") == 5
    assert "target-corpus-aware" in page
    assert "trained − base" in page
    assert "report:" in finished.log


def test_training_moved_the_weights_and_logged_every_query(finished, tiny_model):
    uri = Path(finished.summary["artifacts"]["train"])
    history = json.loads((uri / "history.json").read_text())
    assert len(history) == 12
    intensity = pyarrow.dataset.dataset(uri / "intensity.parquet").to_table()
    assert intensity.num_rows == 12 * 4
    texts = ["ice and snow", "a bell"]
    trained = SentenceTransformer(str(uri / "model"), device="cpu").encode(texts)
    base = SentenceTransformer(str(tiny_model), device="cpu").encode(texts, normalize_embeddings=True)
    assert trained.shape == (2, 32)
    assert abs(trained - base).max() > 1e-3
    card = (uri / "model" / "README.md").read_text()
    assert "library_name: sentence-transformers" in card
    assert finished.summary["artifacts"]["assemble"] in card
    assert "weights of step 12" in card
    assert any((uri / "tensorboard").iterdir())


def test_the_second_run_computes_nothing(finished, run_job):
    started = time.time()
    done = run_job("pipeline", finished.config)
    assert done.returncode == 0, done.stderr
    assert "starting" not in done.stderr
    assert time.time() - started < 60
    assert json.loads((finished.root / "summary.json").read_text()) == finished.summary


def test_other_settings_reuse_what_they_share(finished, run_job):
    done = run_job("evaluate", finished.config, "evaluate.model=bm25", "evaluate.bootstrap=300")
    assert done.returncode == 0, done.stderr
    assert "corpus" in done.stderr
    assert done.stderr.count(": starting") == 1
    scores = json.loads(done.stdout.splitlines()[-1])["scores"]
    assert scores == finished.summary["systems"]["bm25"]
