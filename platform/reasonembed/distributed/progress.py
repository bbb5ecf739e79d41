"""A progress bar in the driver's terminal for work that runs elsewhere."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

POLL_SECONDS = 0.5


@ray.remote(num_cpus=0)
class Counter:
    """Workers report to it, the driver asks it: Ray's own bars need the workers' whole log in the terminal."""

    def __init__(self) -> None:
        self._state = (0, float("nan"))

    def report(self, done: int, loss: float) -> None:
        self._state = (done, loss)

    def state(self) -> tuple[int, float]:
        return self._state


@contextmanager
def show_progress(name: str, total: int) -> Iterator[Any]:
    """Yield a handle whose ``report.remote(done, loss)`` moves the bar."""
    counter = Counter.remote()  # type: ignore[attr-defined]
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    stop = threading.Event()

    def follow() -> None:
        task = bar.add_task(name, total=total)
        while not stop.wait(POLL_SECONDS):
            try:
                done, loss = ray.get(counter.state.remote(), timeout=5)
            except ray.exceptions.RayError:
                continue
            bar.update(task, completed=done, description=name if not done else f"{name}, loss {loss:.3f}")

    thread = threading.Thread(target=follow, daemon=True)
    with bar:
        thread.start()
        try:
            yield counter
        finally:
            stop.set()
            thread.join(timeout=5)
