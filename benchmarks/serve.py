"""The endpoint beside its peers under load, one command:

    python benchmarks/serve.py CONFIG --locust PYTHON [section.key=value ...] [--users 1 8 32 64] [--seconds 20]
    python benchmarks/serve.py CONFIG --locust PYTHON --overload [--seconds 300]

Ours is ``jobs/serve.py`` on the index that CONFIG's run names as its latest; the peer is ``plain_server.py`` on the
same files. Both stand on this machine, one after the other, and locust's users (``--locust`` names a Python that has
it) ask both for the same questions: pieces of the index's documents of 3 to 60 words. ``--infinity`` names a Python
with ``infinity-emb``, which is measured too, for vectors alone (``--embeddings``).

With ``--overload`` ours alone is asked twice as often as it can answer: how many requests it answers and refuses, how
long that takes, what memory does, and how soon it is itself again.
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
from reasonembed.retrieval.faiss_index import DOCUMENTS
from reasonembed.serving.index_pointer import latest_index
from reasonembed.serving.index_shards import finished_index

HERE = Path(__file__).parent
PORT = 8765
URL = f"http://127.0.0.1:{PORT}"
REFUSALS = (429, 503)


@dataclass
class Measured:
    """Of the answered requests; times in milliseconds."""

    answered: int
    refused: int
    failed: int
    per_second: float
    p50: float
    p99: float
    slowest: float
    slowest_refusal: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--locust", required=True, help="a Python with locust")
    parser.add_argument("--infinity", help="a Python with infinity-emb")
    parser.add_argument("--embeddings", action="store_true", help="vectors alone, no search")
    parser.add_argument("--users", nargs="+", type=int, default=[1, 8, 32, 64])
    parser.add_argument("--seconds", type=int, default=20, help="of every measurement")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--overload", action="store_true")
    arguments = parser.parse_args()
    config = load_config(arguments.config, arguments.overrides)
    index = finished_index(config.serve.index or latest_index(config.run.root))
    load = Load(arguments, _questions(index))
    model = str(index.record["config"]["model"])
    ours = [sys.executable, "jobs/serve.py", arguments.config, f"serve.port={PORT}", *arguments.overrides]
    if arguments.overload:
        with _server(ours) as process:
            _overload(load, process, arguments.seconds)
        return
    servers = {"ours": ours, "plain": [sys.executable, str(HERE / "plain_server.py"), index.uri, model, str(PORT)]}
    if arguments.infinity:
        script = str(Path(arguments.infinity).parent / "infinity_emb")
        servers["infinity"] = [script, "v2", "--model-id", model, "--port", str(PORT), "--url-prefix", "/v1"]
        servers["infinity"] += ["--device", "cpu", "--host", "127.0.0.1", "--served-model-name", "m"]
    found: dict[tuple[str, int], list[Measured]] = {}
    for _ in range(arguments.rounds):
        for name, command in servers.items():
            with _server(command, "/health" if name == "infinity" else "/readyz"):
                load.run(4, 5, name)  # warm
                for users in arguments.users:
                    found.setdefault((name, users), []).append(load.run(users, arguments.seconds, name))
    Console(width=110).print(_table(found, list(servers), arguments))


def _table(found: dict[tuple[str, int], list[Measured]], servers: list[str], arguments: argparse.Namespace) -> Table:
    what = "vectors" if arguments.embeddings else "searches"
    table = Table(
        title=f"{what}: median of {arguments.rounds} round(s) of {arguments.seconds} s, {os.cpu_count()} cores"
    )
    for name in ("users", "server", "answers/s", "ours beside it", "p50 ms", "p99 ms", "failed", "refused"):
        table.add_column(name, justify="left" if name == "server" else "right")
    for users in arguments.users:
        for name in servers:
            of = found[name, users]
            median = lambda field, of=of: statistics.median(getattr(one, field) for one in of)  # noqa: E731
            pairs = zip(found["ours", users], of, strict=True)
            ratio = statistics.median(a.per_second / max(b.per_second, 1e-9) for a, b in pairs)
            cells = (f"{median('per_second'):.1f}", f"{ratio:.2f} x" if name != "ours" else "", f"{median('p50'):.0f}")
            counts = (str(sum(one.failed for one in of)), str(sum(one.refused for one in of)))
            table.add_row(str(users), name, *cells, f"{median('p99'):.0f}", *counts)
    return table


def _overload(load: "Load", process: psutil.Process, seconds: int) -> None:
    console = Console(width=110)
    say = lambda text: console.print(text, highlight=False)  # noqa: E731
    load.run(8, 10)
    before = _seconds_alone(load)
    capacity = load.run(32, 30).per_second
    say(f"alone a request takes {1000 * before:.0f} ms; 32 users get {capacity:.1f} answers/s")
    users = 1000  # so many that they go on asking while others wait
    with _watched_memory(process) as memory:
        found = load.run(users, seconds, rate=2 * capacity / users)
    asked = (found.answered + found.refused + found.failed) / seconds
    say(f"{asked:.1f} requests/s for {seconds} s: {found.answered} answered, {found.refused} refused")
    say(f"{found.failed} failed otherwise")
    say(f"answers: p50 {found.p50:.0f} ms, p99 {found.p99:.0f} ms, slowest {found.slowest:.0f} ms")
    say(f"slowest refusal {found.slowest_refusal:.0f} ms")
    ended = time.perf_counter()
    while _seconds_alone(load) > 1.5 * before and time.perf_counter() < ended + 60:
        time.sleep(0.1)
    say(f"{time.perf_counter() - ended:.1f} s later a request alone takes no more than half as long again as before")
    say("memory by fifths of that time, MiB:")
    for title in sorted({title for seen in memory for title in seen}):
        say(f"  {title}: {_by_fifths([seen.get(title, 0.0) for seen in memory])}")
    say(f"  all: {_by_fifths([sum(seen.values()) for seen in memory])}")


def _by_fifths(values: list[float]) -> str:
    fifth = max(1, len(values) // 5)
    return ", ".join(f"{statistics.median(values[start : start + fifth]):.0f}" for start in range(0, 5 * fifth, fifth))


def _seconds_alone(load: "Load", times: int = 9) -> float:
    took = []
    for text in load.texts[:times]:
        started = time.perf_counter()
        requests.post(f"{URL}/v1/search", json={"query": text}, timeout=120)
        took.append(time.perf_counter() - started)
    return statistics.median(took)


@contextmanager
def _watched_memory(process: psutil.Process) -> Iterator[list[dict[str, float]]]:
    """MiB of the processes below one, every second, by the first words of their command lines."""
    found: list[dict[str, float]] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(1):
            seen: dict[str, float] = {}
            for one in process.children(recursive=True):
                try:
                    title = _title(one.cmdline())
                    seen[title] = seen.get(title, 0.0) + one.memory_full_info().uss / (1 << 20)
                except psutil.Error:
                    continue
            found.append(seen)

    thread = threading.Thread(target=watch)
    thread.start()
    yield found
    stop.set()
    thread.join()


def _title(command: list[str]) -> str:
    """``ray::ServeReplica:search:gateway``, ``raylet``, ``dashboard``."""
    words = [Path(word).name if word.startswith("/") else word for word in " ".join(command).split()]
    named = [word for word in words if word.endswith(".py")]
    return (named or words or ["?"])[0].split(".")[0]


class Load:
    def __init__(self, arguments: argparse.Namespace, texts: list[str]) -> None:
        self._locust, self._embeddings, self.texts = arguments.locust, arguments.embeddings, texts

    def run(self, users: int, seconds: int, server: str = "ours", rate: float = 0) -> Measured:
        """``rate``: requests a second of each user; as many as it can, when that is 0."""
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
            command = [self._locust, "-m", "locust", "-f", str(HERE / "load.py"), "--headless", "--host", URL]
            command += ["--users", str(users), "--spawn-rate", str(users), "--run-time", f"{seconds}s"]
            command += ["--csv", f"{folder}/found", "--only-summary", "--reset-stats", "--exit-code-on-error", "0"]
            environment = {**os.environ, "LOAD_SETTINGS": f"{folder}/settings.json"}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(done.stderr[-3000:])
            with open(f"{folder}/found_stats.csv", newline="") as file:
                rows = {row["Name"]: row for row in csv.DictReader(file)}
        asked, refused = rows.get("ask", {}), rows.get("refused", {})
        count = lambda row, name: int(float(row.get(name) or 0))  # noqa: E731
        answered = count(asked, "Request Count") - count(asked, "Failure Count")
        return Measured(
            answered=answered,
            refused=count(refused, "Request Count"),
            failed=count(asked, "Failure Count"),
            per_second=float(asked.get("Requests/s") or 0) * answered / max(1, count(asked, "Request Count")),
            p50=float(asked.get("50%") or 0),
            p99=float(asked.get("99%") or 0),
            slowest=float(asked.get("Max Response Time") or 0),
            slowest_refusal=float(refused.get("Max Response Time") or 0),
        )


def _questions(index: Any) -> list[str]:
    rng = random.Random(0)
    texts = index.table(DOCUMENTS, "shard-")["text"].to_pylist()
    found = []
    for text in rng.sample(texts, min(500, len(texts))):
        words = text.split()
        size = rng.randint(3, 60)
        start = rng.randint(0, max(0, len(words) - size))
        found.append(" ".join(words[start : start + size]) or "nothing")
    return found


@contextmanager
def _server(command: list[str], ready: str = "/readyz") -> Iterator[psutil.Process]:
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, start_new_session=True, stdout=log, stderr=log, cwd=HERE.parent)
        try:
            _wait(process, ready, log)
            yield psutil.Process(process.pid)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
            process.wait(timeout=120)


def _wait(process: subprocess.Popen[bytes], ready: str, log: Any) -> None:
    end = time.time() + 300
    while time.time() < end:
        if process.poll() is not None:
            log.seek(0)
            sys.exit(log.read()[-3000:])
        try:
            if requests.get(URL + ready, timeout=2).status_code == 200:
                return
        except requests.RequestException:
            pass
        time.sleep(0.5)
    sys.exit("the server did not start")


if __name__ == "__main__":
    main()
