"""Annotation on a cluster whose machines come with the work and go with it: Ray's autoscaler over its fake multi-node
provider, whose machines are Ray nodes of their own with their own labels. A real vLLM engine runs on each."""

import collections
import os
import subprocess
import sys

import psutil
import pytest
import ray
from clusters import head
from parts import write_config
from processes import wait_for
from ray.job_submission import JobStatus, JobSubmissionClient
from test_language_models import ENGINE, SHORT, Prepared, input_of, written

from reasonembed import artifacts, schemas
from reasonembed.config import load_config

POOL = "gpu-spot"
# The GPUs are numbers to Ray's scheduler; what runs is vLLM's build for CPUs.
KINDS = {
    "cpu": {"resources": {"CPU": 4}, "labels": {"ray-subcluster": "cpu"}, "max_workers": 1},
    POOL: {"resources": {"CPU": 4, "GPU": 1}, "labels": {"ray-subcluster": POOL}, "max_workers": 2},
}


@pytest.fixture(scope="module")
def elastic():
    with head(kinds=KINDS) as started:
        yield started


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, tiny_corpus, tiny_model, tiny_llm):
    """A config and the root of its run, in which only the annotation is left to do."""
    folder = tmp_path_factory.mktemp("elastic")
    root = folder / "runs"
    config = write_config(
        folder / "config.yaml",
        str(root),
        tiny_corpus,
        tiny_model,
        cluster={"data": {"pool": "cpu"}, "encode": {"pool": "cpu"}, "llm": {"gpus": 1, "pool": POOL}},
        run={"actors": 1, "rows_per_block": 32, "max_reject_fraction": 1.0},
        llm={
            "engine": "vllm",
            "model": str(tiny_llm),
            "actors": [1, 2],
            "engine_kwargs": ENGINE,
            "max_model_len": 2048,
        },
        generate={"max_queries": 24, "min_chars": 40, **SHORT},
        mine={"keep": 20},
        annotate=SHORT,
    )
    Prepared(load_config(config, ["cluster.data={}", "cluster.encode={}"])).mine()
    ray.shutdown()
    return config, root


def test_machines_follow_the_annotation_and_one_that_is_lost_costs_no_row(prepared, elastic, tmp_path, repository):
    config, root = prepared
    assert not elastic.machines("cpu")
    assert not elastic.machines(POOL)
    client = JobSubmissionClient(elastic.address, headers=elastic.headers)
    submitted = subprocess.run(
        [sys.executable, str(repository / "jobs/submit.py"), "annotate", str(config), "--address", elastic.address],
        cwd=tmp_path,
        env={**os.environ, **elastic.env},
        capture_output=True,
        text=True,
        check=True,
    )
    job = submitted.stdout.strip()

    def running():
        status = client.get_job_status(job)
        assert status not in {JobStatus.FAILED, JobStatus.STOPPED}, client.get_job_logs(job)
        return status != JobStatus.SUCCEEDED

    def at_work():
        assert running(), client.get_job_logs(job)
        return written(root, "annotate") >= 64 and len(elastic.machines(POOL)) == 2

    wait_for(at_work, elastic.process)
    lost = min(elastic.machines(POOL))
    switch_off(lost)
    wait_for(lambda: not running(), elastic.process)
    assert lost not in elastic.machines(POOL)
    wait_for(lambda: not elastic.machines(POOL), elastic.process, 60)

    (annotations,) = artifacts.finished(str(root), "annotate")
    candidates = input_of(annotations, "candidates")
    there = collections.Counter(annotations.table(schemas.ANNOTATIONS)["pair_id"].to_pylist())
    assert set(there) == set(candidates.table(schemas.CANDIDATES)["pair_id"].to_pylist())
    assert set(there.values()) == {1}


def switch_off(node_id):
    for process in psutil.process_iter(["cmdline", "name"]):
        if process.info["name"] == "raylet" and node_id in " ".join(process.info["cmdline"]):
            process.kill()
            return
    pytest.fail(f"no raylet of node {node_id}")
