"""Fixtures of the tests that run the real engines."""

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray
from endpoints import KEY, Endpoint
from factories import load_pipeline, write_config
from processes import running_endpoint


@dataclass(frozen=True)
class PipelineRun:
    """A finished run of the whole pipeline."""

    config: Path
    root: Path
    """``run.root``."""
    result: dict
    """The JSON object of the last line."""
    summary: dict
    """Content of ``summary.json``."""
    log: str


@pytest.fixture(scope="session")
def pipeline_run(tmp_path_factory, tiny_corpus, tiny_model, run_job) -> PipelineRun:
    """A run of the whole pipeline on the tiny corpus: real Ray Data, Ray Train with DeepSpeed, FAISS."""
    folder = tmp_path_factory.mktemp("pipeline")
    root = folder / "runs"
    config = write_config(folder / "config.yaml", str(root), tiny_corpus, tiny_model)
    done = run_job("pipeline", config)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    return PipelineRun(config, root, result, json.loads((root / "summary.json").read_text()), done.stderr)


@pytest.fixture(scope="session")
def served_indexes(pipeline_run):
    """Index artifacts by name: in one shard and in two, of another kind, and of another model."""
    overrides = {
        "one shard": (),
        "two shards": ("index.shards=2",),
        "hnsw": ("index.shards=2", "index.kind=hnsw"),
        "base model": ("index.shards=2", "index.model=base"),
    }
    indexes = {name: load_pipeline(pipeline_run.config, *values).run("index") for name, values in overrides.items()}
    ray.shutdown()
    return indexes


@pytest.fixture(scope="session")
def endpoint_stack():
    """Holds the shared endpoint while it runs."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="session")
def shared_endpoint(pipeline_run, served_indexes, endpoint_stack, tmp_path_factory) -> Endpoint:
    """A running endpoint with two encoders, two gateways and two search shards."""
    endpoint = Endpoint(tmp_path_factory.mktemp("served"))
    endpoint.point_to(served_indexes["two shards"].uri)
    settings = ["encoders=2", "gateways=2", "search_shards=2", "poll_seconds=0.2", "waiting=40", "body_bytes=100000"]
    overrides = [f"run.root={endpoint.root}", *(f"serve.{setting}" for setting in settings)]
    running = running_endpoint(pipeline_run.config, *overrides, SERVE_API_KEYS=f"tests: {KEY}")
    endpoint.url, endpoint.process = endpoint_stack.enter_context(running)
    return endpoint


@pytest.fixture(scope="module")
def endpoint(request, shared_endpoint, endpoint_stack):
    """The shared endpoint, which is stopped after the last module that uses it."""
    yield shared_endpoint
    items = request.session.items
    last = max(number for number, item in enumerate(items) if item.path == request.path)
    if not any("shared_endpoint" in item.fixturenames for item in items[last + 1 :]):
        endpoint_stack.close()
