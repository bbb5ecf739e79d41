"""A stage on the real vLLM engine. The model is random, so only the form of its answers is checked."""

import json

from factories import SHORT_ANSWERS, VLLM_ENGINE, write_config

from reasonembed import artifacts, schemas

QUERIES = 6


def test_a_stage_gets_every_row_from_vllm(run_job, tmp_path, tiny_corpus, tiny_model, tiny_llm):
    config = write_config(
        tmp_path / "config.yaml",
        str(tmp_path / "runs"),
        tiny_corpus,
        tiny_model,
        llm={"engine": "vllm", "model": str(tiny_llm), "engine_kwargs": VLLM_ENGINE, "max_model_len": 2048},
        run={"max_reject_fraction": 0.2},
        generate={"max_queries": QUERIES, **SHORT_ANSWERS},
    )
    done = run_job("generate", config)
    assert done.returncode == 0, done.stderr
    queries = artifacts.load(json.loads(done.stdout.splitlines()[-1])["artifact"])
    rows = queries.table(schemas.QUERIES).to_pylist()
    assert len({row["source_doc_id"] for row in rows}) == QUERIES
    accepted = [row for row in rows if row["reject_reason"] is None]
    assert len(accepted) == queries.figures["rows"] >= 0.8 * QUERIES
    for row in accepted:
        assert 0 < len(row["query"]) <= SHORT_ANSWERS["max_text_chars"]
        assert row["generator"] == tiny_llm.name
    assert queries.figures["calls"] >= QUERIES
    assert queries.figures["input_tokens"] > QUERIES * 100
    assert QUERIES * 5 < queries.figures["output_tokens"] <= queries.figures["calls"] * SHORT_ANSWERS["max_new_tokens"]
