"""Loaded by vLLM in each of its processes (entry point ``vllm.general_plugins``).

vLLM computes in a child process. When the worker that started it is killed outright, that child lives on with its whole
model in memory, nobody tells it to stop, and the next run finds the GPU full. So it watches its parent.
"""

import multiprocessing
import os
import signal
import threading
import time

LOOK_EVERY_SECONDS = 0.5


def end_with_parent() -> None:
    """In a child process: start a thread that ends the process when its parent is gone. Elsewhere: nothing."""
    if multiprocessing.parent_process() is None:
        return
    # Not the parent that multiprocessing knows: with its fork server that is not the process to watch.
    threading.Thread(target=_watch, args=(os.getppid(),), name="end-with-parent", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
