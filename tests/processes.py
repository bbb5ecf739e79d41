"""Jobs that run beside a test."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

REPOSITORY = Path(__file__).parents[1]


def start_job(job: str, *arguments: object, **env: str) -> subprocess.Popen[str]:
    """A script of ``jobs/`` in a process group of its own; what it says goes to ``stderr``."""
    return subprocess.Popen(
        [sys.executable, f"jobs/{job}.py", *map(str, arguments)],
        cwd=REPOSITORY,
        env={**os.environ, **env},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str], seconds: float = 600) -> None:
    end = time.time() + seconds
    while time.time() < end:
        if condition():
            return
        if process.poll() is not None:
            pytest.fail(f"the job ended before it came so far: {process.communicate()[1]}")
        time.sleep(0.05)
    pytest.fail("the job never came so far")


@contextmanager
def serving(config: Path, *overrides: str, **env: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """``jobs/serve.py`` on a free port, stopped by Ctrl-C: its URL and its process."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = start_job("serve", config, f"serve.port={port}", *overrides, **env)
    try:
        wait_for(lambda: answers(f"{url}/readyz"), process, 300)
        yield url, process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        _, log = process.communicate(timeout=120)
    assert "Traceback" not in log, log


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(url: str, *codes: int) -> bool:
    """Whether there is an answer, of one of these codes; of 200 where none is named."""
    try:
        return requests.get(url, timeout=5).status_code in (codes or (200,))
    except requests.RequestException:
        return False
