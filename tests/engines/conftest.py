import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from parts import write_config


@dataclass(frozen=True)
class Finished:
    """A pipeline run that the tests of this folder look at."""

    config: Path
    root: Path
    result: dict
    summary: dict
    log: str


@pytest.fixture(scope="session")
def finished(tmp_path_factory, tiny_corpus, tiny_model, run_job) -> Finished:
    """The whole path on the tiny corpus: real Ray Data, Ray Train with DeepSpeed, FAISS."""
    folder = tmp_path_factory.mktemp("pipeline")
    root = folder / "runs"
    config = write_config(folder / "config.yaml", str(root), tiny_corpus, tiny_model)
    done = run_job("pipeline", config)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    return Finished(config, root, result, json.loads((root / "summary.json").read_text()), done.stderr)


@pytest.fixture(scope="module")
def s3_server() -> Iterator[None]:
    """An S3 server that this process and those it starts find through ``AWS_*``."""
    if os.environ.get("S3_SERVER") == "ceph":
        from ceph.gateway import gateway as server
    else:
        server = moto
    with server() as variables:
        before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name, None) if value is None else os.environ.update({name: value})


@contextmanager
def moto() -> Iterator[dict[str, str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    endpoint = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            try:
                requests.get(endpoint, timeout=1)
                break
            except requests.RequestException:
                time.sleep(0.1)
        yield {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
        }
    finally:
        server.kill()
