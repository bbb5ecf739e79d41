import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
os.environ["HF_HUB_OFFLINE"] = "1"
# An engine of vLLM on a CPU is two processes instead of three, each of which spends ten seconds of a core on imports.
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"

from parts import write_bright, write_llm, write_model
from s3_server import running_server

# A suite that was started in the background of a script ignores Ctrl-C, and the jobs it starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bright(tmp_path_factory.mktemp("corpus") / "bright_tiny")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "tiny", tiny_corpus)


@pytest.fixture(scope="session")
def tiny_llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llm(tmp_path_factory.mktemp("llm") / "tiny")


@pytest.fixture(scope="session")
def run_job():
    """Run a script of ``jobs/`` as a user does, and return what it said."""

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
    with running_server():
        yield
