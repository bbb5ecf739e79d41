"""A progress bar in the driver's terminal for a job that runs on other processes or nodes."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

POLL_SECONDS = 0.5


@contextmanager
def progress_bar(name: str, total: int, poll: Callable[[], tuple[int, str]]) -> Iterator[None]:
    """Shows a progress bar while the block runs.

    Args:
        name: the text beside the bar until the first poll.
        total: the number at which the bar is full.
        poll: called twice a second; returns the number that is done and the text beside the bar. If it raises an error
            of Ray, the bar stays as it is until the next poll.
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

    def update() -> None:
        task = bar.add_task(name, total=total)
        while not stop.wait(POLL_SECONDS):
            try:
                done, text = poll()
            except ray.exceptions.RayError:
                continue
            bar.update(task, completed=done, description=text)

    thread = threading.Thread(target=update, daemon=True)
    with bar:
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(timeout=5)
