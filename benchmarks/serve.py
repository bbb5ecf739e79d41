"""Compares the endpoint with its peers under load, in one command:

    python benchmarks/serve.py CONFIG --locust PYTHON [section.key=value ...] [--users 1 8 32 64] [--seconds 20]
    python benchmarks/serve.py CONFIG --locust PYTHON --overload [--seconds 300]

Ours is ``jobs/serve.py`` with the latest index of CONFIG's run; the peer is ``plain_server.py`` with the same files.
They run on this machine one after the other, and locust's users (``--locust`` names a Python executable with locust)
send the same questions to both: excerpts of 3 to 60 words from the documents of the index. ``--infinity`` names a
Python executable with ``infinity-emb``, which is then measured too; it serves only vectors (``--embeddings``).

With ``--overload`` only our endpoint is measured, at twice the request rate that it can answer: the number of answered
and of refused requests, the latencies, the memory, and the time until latencies are normal again.
"""

import argparse
import csv
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests
from rich.console import Console
from rich.table import Table

from reasonembed.config import load_config
from reasonembed.retrieval.index_files import INDEXED_DOCUMENTS
from reasonembed.serving.index_pointer import latest_index
from reasonembed.serving.index_shards import load_index_artifact

BENCHMARKS = Path(__file__).parent
PORT = 8765
URL = f"http://127.0.0.1:{PORT}"
REFUSALS = (429, 503)


@dataclass
class Measurement:
    """Outcome of one load test. Rate and latencies (in milliseconds) are those of the answered requests."""

    answered: int
    refused: int
    failed: int
    per_second: float
    p50: float
    p99: float
    slowest: float
    slowest_refusal: float


def main() -> None:
    """Runs the comparison, or the overload test with ``--overload``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="configuration of the run whose index is served")
    parser.add_argument("overrides", nargs="*", help="section.key=value")
    parser.add_argument("--locust", required=True, help="a Python executable with locust")
    parser.add_argument("--infinity", help="a Python executable with infinity-emb")
    parser.add_argument("--embeddings", action="store_true", help="measure vectors instead of searches")
    parser.add_argument("--users", nargs="+", type=int, default=[1, 8, 32, 64], help="numbers of concurrent users")
    parser.add_argument("--seconds", type=int, default=20, help="duration of each measurement")
    parser.add_argument("--rounds", type=int, default=1, help="measurements of each server; medians are reported")
    parser.add_argument("--overload", action="store_true", help="measure our endpoint at twice its capacity")
    arguments = parser.parse_args()
    config = load_config(arguments.config, arguments.overrides)
    index = load_index_artifact(config.serve.index or latest_index(config.run.root))
    load_test = LoadTest(arguments, _questions(index))
    model = str(index.record["config"]["model"])
    ours = [sys.executable, "jobs/serve.py", arguments.config, f"serve.port={PORT}", *arguments.overrides]
    if arguments.overload:
        with _server(ours) as process:
            _measure_overload(load_test, process, arguments.seconds)
        return
    servers = {
        "ours": ours,
        "plain": [sys.executable, str(BENCHMARKS / "plain_server.py"), index.uri, model, str(PORT)],
    }
    if arguments.infinity:
        script = str(Path(arguments.infinity).parent / "infinity_emb")
        servers["infinity"] = [script, "v2", "--model-id", model, "--port", str(PORT), "--url-prefix", "/v1"]
        servers["infinity"] += ["--device", "cpu", "--host", "127.0.0.1", "--served-model-name", "m"]
    measurements: dict[tuple[str, int], list[Measurement]] = {}
    for _ in range(arguments.rounds):
        for name, command in servers.items():
            with _server(command, "/health" if name == "infinity" else "/readyz"):
                load_test.run(4, 5, name)  # warm-up
                for users in arguments.users:
                    measurement = load_test.run(users, arguments.seconds, name)
                    measurements.setdefault((name, users), []).append(measurement)
    Console(width=110).print(_table(measurements, list(servers), arguments))


def _table(
    measurements: dict[tuple[str, int], list[Measurement]], servers: list[str], arguments: argparse.Namespace
) -> Table:
    kind = "vectors" if arguments.embeddings else "searches"
    table = Table(
        title=f"{kind}: median of {arguments.rounds} round(s) of {arguments.seconds} s, {os.cpu_count()} cores"
    )
    for name in ("users", "server", "answers/s", "ours / this", "p50 ms", "p99 ms", "failed", "refused"):
        table.add_column(name, justify="left" if name == "server" else "right")
    for users in arguments.users:
        for name in servers:
            rounds = measurements[name, users]
            median = lambda field, rounds=rounds: statistics.median(getattr(one, field) for one in rounds)  # noqa: E731
            pairs = zip(measurements["ours", users], rounds, strict=True)
            ratio = statistics.median(ours.per_second / max(other.per_second, 1e-9) for ours, other in pairs)
            cells = (f"{median('per_second'):.1f}", f"{ratio:.2f} x" if name != "ours" else "", f"{median('p50'):.0f}")
            counts = (str(sum(one.failed for one in rounds)), str(sum(one.refused for one in rounds)))
            table.add_row(str(users), name, *cells, f"{median('p99'):.0f}", *counts)
    return table


def _measure_overload(load_test: "LoadTest", process: psutil.Process, seconds: int) -> None:
    """Prints the results of an overload test; ``process`` is that of the server."""
    console = Console(width=110)
    print_line = lambda text: console.print(text, highlight=False)  # noqa: E731
    load_test.run(8, 10)  # warm-up
    idle_seconds = _single_request_seconds(load_test)
    capacity = load_test.run(32, 30).per_second
    print_line(f"a single request takes {1000 * idle_seconds:.0f} ms; 32 users get {capacity:.1f} answers/s")
    users = 1000  # enough for the rate although many of them wait for an answer
    with _memory_by_process(process) as memory:
        result = load_test.run(users, seconds, rate=2 * capacity / users)
    rate = (result.answered + result.refused + result.failed) / seconds
    print_line(f"{rate:.1f} requests/s for {seconds} s: {result.answered} answered, {result.refused} refused")
    print_line(f"{result.failed} failed otherwise")
    print_line(f"answers: p50 {result.p50:.0f} ms, p99 {result.p99:.0f} ms, slowest {result.slowest:.0f} ms")
    print_line(f"slowest refusal {result.slowest_refusal:.0f} ms")
    ended = time.perf_counter()
    while _single_request_seconds(load_test) > 1.5 * idle_seconds and time.perf_counter() < ended + 60:
        time.sleep(0.1)
    print_line(f"{time.perf_counter() - ended:.1f} s later a single request takes at most 1.5 times as long as before")
    print_line("memory in MiB, median of each fifth of that time:")
    for title in sorted({title for sample in memory for title in sample}):
        print_line(f"  {title}: {_medians_of_fifths([sample.get(title, 0.0) for sample in memory])}")
    print_line(f"  all: {_medians_of_fifths([sum(sample.values()) for sample in memory])}")


def _medians_of_fifths(values: list[float]) -> str:
    fifth = max(1, len(values) // 5)
    return ", ".join(f"{statistics.median(values[start : start + fifth]):.0f}" for start in range(0, 5 * fifth, fifth))


def _single_request_seconds(load_test: "LoadTest", requests_sent: int = 9) -> float:
    durations = []
    for text in load_test.texts[:requests_sent]:
        started = time.perf_counter()
        requests.post(f"{URL}/v1/search", json={"query": text}, timeout=120)
        durations.append(time.perf_counter() - started)
    return statistics.median(durations)


@contextmanager
def _memory_by_process(process: psutil.Process) -> Iterator[list[dict[str, float]]]:
    """Samples the memory (MiB) of all processes below one every second, summed by their titles."""
    samples: list[dict[str, float]] = []
    stop = threading.Event()

    def take_samples() -> None:
        while not stop.wait(1):
            sample: dict[str, float] = {}
            for child in process.children(recursive=True):
                try:
                    title = _title(child.cmdline())
                    sample[title] = sample.get(title, 0.0) + child.memory_full_info().uss / (1 << 20)
                except psutil.Error:
                    continue
            samples.append(sample)

    thread = threading.Thread(target=take_samples)
    thread.start()
    yield samples
    stop.set()
    thread.join()


def _title(command: list[str]) -> str:
    """Returns a short title of a command line, such as ``ray::ServeReplica:search:gateway`` or ``raylet``."""
    words = [Path(word).name if word.startswith("/") else word for word in " ".join(command).split()]
    scripts = [word for word in words if word.endswith(".py")]
    return (scripts or words or ["?"])[0].split(".")[0]


class LoadTest:
    """Runs locust against the server.

    Args:
        arguments: arguments of the command line.
        texts: questions that the users send.
    """

    def __init__(self, arguments: argparse.Namespace, texts: list[str]) -> None:
        self._locust, self._embeddings, self.texts = arguments.locust, arguments.embeddings, texts

    def run(self, users: int, seconds: int, server: str = "ours", rate: float = 0) -> Measurement:
        """Runs one load test.

        Args:
            users: number of concurrent users.
            seconds: duration.
            server: name of the server.
            rate: requests per second of each user; 0: each user sends requests without a pause.
        """
        body: dict[str, Any] = {} if self._embeddings else {"top_k": 10}
        if server == "infinity":
            body["model"] = "m"
        settings = {
            "texts": self.texts,
            "rate": rate,
            "path": "/v1/embeddings" if self._embeddings else "/v1/search",
            "field": "input" if self._embeddings else "query",
            "body": body,
            "refusals": REFUSALS,
        }
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "settings.json").write_text(json.dumps(settings))
            command = [self._locust, "-m", "locust", "-f", str(BENCHMARKS / "load.py"), "--headless", "--host", URL]
            command += ["--users", str(users), "--spawn-rate", str(users), "--run-time", f"{seconds}s"]
            command += ["--csv", f"{folder}/result", "--only-summary", "--reset-stats", "--exit-code-on-error", "0"]
            environment = {**os.environ, "LOAD_SETTINGS": f"{folder}/settings.json"}
            locust = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if locust.returncode:
                sys.exit(locust.stderr[-3000:])
            with open(f"{folder}/result_stats.csv", newline="") as file:
                rows = {row["Name"]: row for row in csv.DictReader(file)}
        sent, refused = rows.get("sent", {}), rows.get("refused", {})
        count = lambda row, name: int(float(row.get(name) or 0))  # noqa: E731
        answered = count(sent, "Request Count") - count(sent, "Failure Count")
        return Measurement(
            answered=answered,
            refused=count(refused, "Request Count"),
            failed=count(sent, "Failure Count"),
            per_second=float(sent.get("Requests/s") or 0) * answered / max(1, count(sent, "Request Count")),
            p50=float(sent.get("50%") or 0),
            p99=float(sent.get("99%") or 0),
            slowest=float(sent.get("Max Response Time") or 0),
            slowest_refusal=float(refused.get("Max Response Time") or 0),
        )


def _questions(index: Any) -> list[str]:
    """Returns excerpts of 3 to 60 words from up to 500 documents."""
    rng = random.Random(0)
    texts = index.table(INDEXED_DOCUMENTS, "shard-")["text"].to_pylist()
    questions = []
    for text in rng.sample(texts, min(500, len(texts))):
        words = text.split()
        size = rng.randint(3, 60)
        start = rng.randint(0, max(0, len(words) - size))
        questions.append(" ".join(words[start : start + size]) or "nothing")
    return questions


@contextmanager
def _server(command: list[str], ready_path: str = "/readyz") -> Iterator[psutil.Process]:
    """Runs a server, yields its process when it is ready, and ends it."""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, start_new_session=True, stdout=log, stderr=log, cwd=BENCHMARKS.parent)
        try:
            _wait_until_ready(process, ready_path, log)
            yield psutil.Process(process.pid)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
            process.wait(timeout=120)


def _wait_until_ready(process: subprocess.Popen[bytes], ready_path: str, log: Any) -> None:
    deadline = time.time() + 300
    while time.time() < deadline:
        if process.poll() is not None:
            log.seek(0)
            sys.exit(log.read()[-3000:])
        try:
            if requests.get(URL + ready_path, timeout=2).status_code == 200:
                return
        except requests.RequestException:
            pass
        time.sleep(0.5)
    sys.exit("the server was not ready after 300 s")


if __name__ == "__main__":
    main()
