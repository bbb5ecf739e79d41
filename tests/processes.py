"""Processes beside a test: how they are started, waited for and ended."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import pytest
import requests

REPOSITORY = Path(__file__).parents[1]


def start_process(
    command: Sequence[object],
    stdout: int | IO[str] = subprocess.DEVNULL,
    stderr: int | IO[str] = subprocess.DEVNULL,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.Popen[str]:
    """Starts a program in a process group of its own.

    Args:
        command: the program and its arguments.
        stdout: destination of the standard output, as for ``subprocess.Popen``.
        stderr: destination of the standard error.
        env: variables that are added to this process's environment.
        cwd: working directory of the program; this process's own by default.
    """
    return subprocess.Popen(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        start_new_session=True,
        stdout=stdout,
        stderr=stderr,
        text=True,
    )


def start_job(job: str, *arguments: object, **env: str) -> subprocess.Popen[str]:
    """Starts a script of ``jobs/``; its JSON line goes to ``stdout`` and its log to ``stderr``."""
    command = (sys.executable, f"jobs/{job}.py", *arguments)
    return start_process(command, subprocess.PIPE, subprocess.PIPE, env, REPOSITORY)


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str], seconds: float = 600) -> None:
    """Waits until the condition is true; fails the test if the process ends before that, or the time is up."""
    end = time.time() + seconds
    while time.time() < end:
        if condition():
            return
        if process.poll() is not None:
            pytest.fail(f"the process ended before the condition was true: {process.communicate()[1]}")
        time.sleep(0.05)
    pytest.fail(f"the condition was not true within {seconds} seconds")


def interrupt(process: subprocess.Popen[str]) -> None:
    """Sends SIGINT to the whole process group, as a terminal does for Ctrl-C."""
    os.killpg(process.pid, signal.SIGINT)


def kill(process: subprocess.Popen[str]) -> None:
    """Ends the whole process group at once, without any clean-up of its own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def running_endpoint(config: Path, *overrides: str, **env: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Runs ``jobs/serve.py`` on a free port and stops it by Ctrl-C; yields its URL and its process."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = start_job("serve", config, f"serve.port={port}", *overrides, **env)
    try:
        wait_for(lambda: responds(f"{url}/readyz"), process, 300)
        yield url, process
    finally:
        if process.poll() is None:
            interrupt(process)
        _, log = process.communicate(timeout=120)
    assert "Traceback" not in log, log


def free_port() -> int:
    """Returns a TCP port of 127.0.0.1 that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def responds(url: str, *statuses: int) -> bool:
    """Returns whether a GET request is answered with one of these HTTP statuses, by default with 200."""
    try:
        return requests.get(url, timeout=5).status_code in (statuses or (200,))
    except requests.RequestException:
        return False
