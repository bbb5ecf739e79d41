"""Fixtures that all tests share."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
os.environ["HF_HUB_OFFLINE"] = "1"
# A vLLM engine on CPUs is then two processes instead of three, each of which spends ten seconds of a core on imports.
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"

from factories import write_bright, write_llm, write_model
from s3_server import running_s3_server

# A test run that a script starts in the background ignores SIGINT, and its jobs would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root folder of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BRIGHT folder with 64 documents and 4 questions in two tasks."""
    return write_bright(tmp_path_factory.mktemp("corpus") / "bright_tiny")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path) -> Path:
    """A random BERT with the vocabulary of ``tiny_corpus``."""
    return write_model(tmp_path_factory.mktemp("model") / "tiny", tiny_corpus)


@pytest.fixture(scope="session")
def tiny_llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen3 that vLLM can load."""
    return write_llm(tmp_path_factory.mktemp("llm") / "tiny")


@pytest.fixture(scope="session")
def run_job():
    """A function that runs a script of ``jobs/`` as a user does and returns its exit code and output."""

    def run(job: str, *arguments: object, timeout: float = 900, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, f"jobs/{job}.py", *map(str, arguments)],
            cwd=REPOSITORY,
            check=False,
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run


@pytest.fixture(scope="session")
def s3_server():
    """The S3 server named by ``S3_SERVER`` (moto or ceph); jobs reach it through ``AWS_*`` variables."""
    with running_s3_server(os.environ.get("S3_SERVER", "moto")):
        yield
