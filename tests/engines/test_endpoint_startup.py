"""How ``jobs/serve.py`` starts: errors of one line, and vLLM as the engine."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import ray
import requests
from broken_indexes import write_broken_indexes
from endpoints import TEXTS
from factories import load_pipeline
from processes import running_endpoint

from reasonembed.embedder.model import Embedder


def test_a_host_that_other_machines_reach_needs_keys(pipeline_run, run_job):
    refused = run_job("serve", pipeline_run.config, "serve.host=0.0.0.0")
    assert refused.returncode == 2
    assert refused.stderr.strip().splitlines()[-1].startswith("error: serve.host 0.0.0.0 can be reached from elsewhere")


def test_a_run_without_an_index_is_an_error(pipeline_run, run_job):
    refused = run_job("serve", pipeline_run.config, "run.root=/nowhere")
    assert refused.returncode == 2
    assert "holds no finished index" in refused.stderr


@pytest.mark.extended
def test_an_index_that_cannot_be_served_is_an_error_of_one_line(pipeline_run, served_indexes, tmp_path, run_job):
    *_, noise, _ = write_broken_indexes(served_indexes["two shards"], tmp_path)
    failed = run_job("serve", pipeline_run.config, f"serve.index={noise}", "serve.encoders=0")
    assert failed.returncode == 1
    last_line = failed.stderr.strip().splitlines()[-1]
    assert last_line.startswith("error: no index can be served; ")
    assert "of its own documents by their texts" in last_line


@pytest.mark.extended
def test_vllm_runs_the_model_behind_the_same_endpoint(pipeline_run, tiny_llm):
    overrides = [f"index.model={tiny_llm}", "serve.engine=vllm"]
    load_pipeline(pipeline_run.config, *overrides).run("index")
    ray.shutdown()
    expected = Embedder.load(str(tiny_llm)).encode(TEXTS[:40], 32)
    environment = {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}  # The engine cannot start in the replica's own process.

    def embed(text):
        response = requests.post(f"{url}/v1/embeddings", json={"input": text}, timeout=120)
        return response.json()["data"][0]["embedding"]

    with running_endpoint(pipeline_run.config, *overrides, **environment) as (url, _), ThreadPoolExecutor(8) as pool:
        for vector, expected_vector in zip(pool.map(embed, TEXTS[:40]), expected, strict=True):
            assert np.abs(np.array(vector) - expected_vector).max() < 1e-5
