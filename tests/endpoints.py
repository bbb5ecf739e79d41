"""Clients of a running endpoint: single requests, steady load, and the processes and logs behind it."""

import json
import re
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import requests

WORDS = "river rain ice snow bell song warm fire page flood number near".split()
TEXTS = [" ".join(WORDS[(n * k) % len(WORDS)] for k in range(1, 2 + n % 30)) for n in range(120)]
"""Texts of 1 to 30 words that the tiny model knows."""
KEY = "the-key-of-the-tests"
AUTHORISATION = {"authorization": f"Bearer {KEY}"}


@dataclass
class Endpoint:
    """A running ``jobs/serve.py``."""

    root: Path
    """``run.root``, which holds only the pointer to an index."""
    url: str = ""
    process: subprocess.Popen | None = None

    def point_to(self, uri):
        """Changes ``run.root/index/latest``, as the job ``index`` does."""
        (self.root / "index").mkdir(parents=True, exist_ok=True)
        (self.root / "index" / "latest").write_text(json.dumps({"version": "x", "uri": str(uri)}))

    def post(self, path, body, **options):
        """Sends a JSON body with the key of the tests."""
        options = {"headers": AUTHORISATION, "timeout": 60} | options
        return requests.post(f"{self.url}{path}", json=body, **options)

    def live_index(self):
        """Returns the fingerprint of the index that answers."""
        return requests.get(f"{self.url}/readyz", timeout=60).json()["index"]

    def replicas(self, deployment):
        """Returns the processes of a deployment's replicas."""
        title = f"ray::ServeReplica:search:{deployment}"
        return [child for child in self.processes() if command_line(child).startswith(title)]

    def processes(self):
        """Returns all processes below the job."""
        return psutil.Process(self.process.pid).children(recursive=True)


def command_line(process):
    """Returns the command line of a process; empty if it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def metrics_page(processes):
    """Returns what Ray's agent among these processes exports to Prometheus, on a port of its own choice."""
    [agent] = [process for process in processes if "ray::DashboardAgent" in command_line(process)]
    for port in {one.laddr.port for one in agent.net_connections("tcp") if one.status == psutil.CONN_LISTEN}:
        try:
            response = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10)
        except requests.RequestException:
            continue
        if response.ok and "ray_" in response.text:
            return response.text
    return ""


def log_folder(command_lines):
    """Returns the folder of Ray's session in which all its processes write their logs."""
    [folder] = {match[1] for line in command_lines if (match := re.search(r"--log_dir=(\S+/logs)", line))}
    return Path(folder)


@dataclass
class SteadyLoad:
    """Six threads that search without a pause, as a context manager; records every response."""

    endpoint: Endpoint
    responses: list = field(default_factory=list)
    """(status, index, model); instead of the status the name of the error if there was no response."""
    stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self):
        self.threads = [threading.Thread(target=self._search, args=(number,)) for number in range(6)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def _search(self, number):
        with requests.Session() as session:
            while not self.stop.is_set():
                number += 1
                body = {"query": TEXTS[number % len(TEXTS)], "top_k": 3}
                url = f"{self.endpoint.url}/v1/search"
                try:
                    response = session.post(url, json=body, headers=AUTHORISATION, timeout=60)
                    result = response.json()
                    self.responses.append((response.status_code, result.get("index"), result.get("model")))
                except requests.RequestException as error:
                    self.responses.append((type(error).__name__, None, None))

    @property
    def statuses(self):
        """Number of responses by status."""
        return Counter(status for status, _, _ in self.responses)

    def wait_for_responses(self, count=60):
        """Waits for so many further responses."""
        end, total = time.time() + 120, len(self.responses) + count
        while len(self.responses) < total:
            assert time.time() < end, self.statuses
            time.sleep(0.02)

    def wait_for_index(self, fingerprint):
        """Waits until the latest response comes from this index."""

        def answers():
            self.wait_for_responses(5)
            return self.responses[-1][1] == fingerprint

        eventually(answers)


def eventually(condition: Callable[[], object], seconds: float = 60) -> None:
    """Waits until the condition is true; fails if the time is up."""
    end = time.time() + seconds
    while not condition():
        assert time.time() < end
        time.sleep(0.1)
