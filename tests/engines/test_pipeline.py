"""The whole pipeline on the real engines: its artifacts, and that no work is done twice."""

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


def read_stage(pipeline_run, stage, schema):
    return artifacts.load(pipeline_run.summary["artifacts"][stage]).table(schema)


def test_every_stage_leaves_a_complete_artifact(pipeline_run):
    assert sorted(pipeline_run.summary["artifacts"]) == sorted(STAGES)
    for uri in pipeline_run.summary["artifacts"].values():
        artifact = artifacts.load(uri)
        assert artifact.files
        for entry in artifact.files:
            assert Path(uri, entry.path).stat().st_size == entry.size
        assert not Path(uri, artifacts.SCRATCH).exists()


def test_tables_have_their_schemas_and_unique_keys(pipeline_run):
    for stage, schema, key in (
        ("generate", schemas.QUERIES, "query_id"),
        ("rewrite", schemas.REWRITES, "query_id"),
        ("mine", schemas.CANDIDATES, "pair_id"),
        ("annotate", schemas.ANNOTATIONS, "pair_id"),
        ("assemble", schemas.TRAINING, "query_id"),
        ("encode base", schemas.EMBEDDINGS, "text_id"),
    ):
        keys = read_stage(pipeline_run, stage, schema)[key].to_pylist()
        assert len(keys) == len(set(keys)) > 0, stage


def test_judged_documents_are_no_sources_and_sources_are_no_candidates_of_their_query(pipeline_run):
    queries = {row["query_id"]: row for row in read_stage(pipeline_run, "generate", schemas.QUERIES).to_pylist()}
    questions = read_stage(pipeline_run, "questions", schemas.QUESTIONS).to_pylist()
    judged = {doc_id for row in questions for doc_id in row["gold_ids"] + row["excluded_ids"]}
    assert not judged & {row["source_doc_id"] for row in queries.values()}
    pairs = read_stage(pipeline_run, "mine", schemas.CANDIDATES).to_pylist()
    assert all(queries[pair["query_id"]]["source_doc_id"] != pair["doc_id"] for pair in pairs)
    annotated = read_stage(pipeline_run, "annotate", schemas.ANNOTATIONS)["pair_id"].to_pylist()
    assert {pair["pair_id"] for pair in pairs} == set(annotated)


def test_summary_closing_line_and_report(pipeline_run):
    systems = pipeline_run.summary["systems"]
    assert set(systems) == {"bm25", "base", "trained"}
    for scores in systems.values():
        assert set(scores) == {"nature", "physics", "average"}
        average = (scores["nature"]["ndcg@10"] + scores["physics"]["ndcg@10"]) / 2
        assert scores["average"]["ndcg@10"] == pytest.approx(average, abs=1e-5)
    assert set(pipeline_run.summary["seconds"]) == set(STAGES)
    assert pipeline_run.result["stage"] == "pipeline"
    page = Path(pipeline_run.result["artifact"]).read_text()
    assert page.count("<svg") == 5
    assert "target-corpus-aware" in page
    assert "trained − base" in page
    assert "report:" in pipeline_run.log


def test_training_changes_the_weights_and_logs_every_query(pipeline_run, tiny_model):
    uri = Path(pipeline_run.summary["artifacts"]["train"])
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
    assert pipeline_run.summary["artifacts"]["assemble"] in card
    assert "weights of step 12" in card
    assert any((uri / "tensorboard").iterdir())


def test_the_second_run_computes_nothing(pipeline_run, run_job):
    started = time.time()
    done = run_job("pipeline", pipeline_run.config)
    assert done.returncode == 0, done.stderr
    assert "starting" not in done.stderr
    assert time.time() - started < 60
    assert json.loads((pipeline_run.root / "summary.json").read_text()) == pipeline_run.summary


def test_an_evaluation_with_other_settings_reuses_every_other_stage(pipeline_run, run_job):
    done = run_job("evaluate", pipeline_run.config, "evaluate.model=bm25", "evaluate.bootstrap=300")
    assert done.returncode == 0, done.stderr
    assert "corpus" in done.stderr
    assert done.stderr.count(": starting") == 1
    scores = json.loads(done.stdout.splitlines()[-1])["scores"]
    assert scores == pipeline_run.summary["systems"]["bm25"]
