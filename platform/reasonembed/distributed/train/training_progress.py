"""The progress of a training in the driver's terminal, and the error that ended it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from reasonembed.distributed.cluster import on_driver_node
from reasonembed.distributed.progress import progress_bar

log = logging.getLogger(__name__)


@ray.remote(num_cpus=0)
class TrainingProgress:
    """An actor to which workers report steps and errors, and which the driver polls.

    Ray's own progress bars would print the workers' whole log in the terminal.
    """

    def __init__(self) -> None:
        self._done, self._loss, self._resumed_at = 0, float("nan"), 0
        self._error: Exception | None = None
        self._warnings: dict[str, str] = {}
        self._shown = 0

    def report(self, done: int, loss: float) -> None:
        """Records the number of finished steps and the loss of the last one."""
        if done != self._done + 1:
            self._resumed_at = done - 1
        self._done, self._loss = done, loss

    def state(self) -> tuple[int, float, int]:
        """Returns finished steps, the last loss, and the step at which the training was resumed, or 0."""
        return self._done, self._loss, self._resumed_at

    def warn(self, key: str, text: str) -> None:
        """Records a warning; of several warnings with one key, the first."""
        self._warnings.setdefault(key, text)

    def new_warnings(self) -> list[str]:
        """Returns the warnings since the last call."""
        texts = list(self._warnings.values())[self._shown :]
        self._shown += len(texts)
        return texts

    def fail(self, error: Exception) -> None:
        """Records the error that ended the training."""
        self._error = error

    def failure(self) -> Exception | None:
        """Returns the error that ended the training, if there was one."""
        return self._error


@contextmanager
def training_progress(name: str, total: int) -> Iterator[Any]:
    """Shows a progress bar, and warnings of workers, while the block runs.

    Args:
        name: the text beside the bar.
        total: number of steps.

    Yields:
        A handle of a ``TrainingProgress`` actor.
    """
    progress = TrainingProgress.options(**on_driver_node()).remote()  # type: ignore[attr-defined]

    def show_warnings() -> None:
        for text in ray.get(progress.new_warnings.remote(), timeout=5):
            log.warning(text)

    def poll() -> tuple[int, str]:
        show_warnings()
        done, loss, resumed_at = ray.get(progress.state.remote(), timeout=5)
        text = f"{name}, resumed at step {resumed_at}" if resumed_at else name
        return done, f"{text}, loss {loss:.3f}" if done else text

    with progress_bar(name, total, poll):
        yield progress
    show_warnings()
