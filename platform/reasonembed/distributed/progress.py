"""A progress bar in the driver's terminal for work that runs elsewhere."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from reasonembed.distributed.cluster import on_driver_node

POLL_SECONDS = 0.5


@contextmanager
def progress_bar(name: str, total: int, look: Callable[[], tuple[int, str]]) -> Iterator[None]:
    """Show a bar while the block runs.

    Args:
        name: what stands beside the bar until there is more to say.
        total: where the bar ends.
        look: asked twice a second how much is done and what to say beside the bar; Ray's errors mean "don't know".
    """
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
                done, text = look()
            except ray.exceptions.RayError:
                continue
            bar.update(task, completed=done, description=text)

    thread = threading.Thread(target=follow, daemon=True)
    with bar:
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(timeout=5)


@ray.remote(num_cpus=0)
class _Steps:
    """Workers report to it, the driver asks it: Ray's own bars need the workers' whole log in the terminal."""

    def __init__(self) -> None:
        self._done, self._loss, self._resumed = 0, float("nan"), 0
        self._failure: Exception | None = None

    def report(self, done: int, loss: float) -> None:
        if done != self._done + 1:
            self._resumed = done - 1
        self._done, self._loss = done, loss

    def state(self) -> tuple[int, float, int]:
        return self._done, self._loss, self._resumed

    def fail(self, error: Exception) -> None:
        self._failure = error

    def failure(self) -> Exception | None:
        return self._failure


@contextmanager
def show_training(name: str, total: int) -> Iterator[Any]:
    """Yield a handle: ``report.remote(done, loss)`` moves the bar, ``fail.remote(error)`` leaves word for whoever asks
    ``failure``."""
    steps = _Steps.options(**on_driver_node()).remote()  # type: ignore[attr-defined]

    def look() -> tuple[int, str]:
        done, loss, resumed = ray.get(steps.state.remote(), timeout=5)
        begun = f"{name}, resumed at step {resumed}" if resumed else name
        return done, f"{begun}, loss {loss:.3f}" if done else begun

    with progress_bar(name, total, look):
        yield steps
