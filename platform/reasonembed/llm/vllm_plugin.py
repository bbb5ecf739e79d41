"""Plugin that vLLM loads in each of its processes (entry point ``vllm.general_plugins``).

vLLM computes in a child process. If the worker that started it is killed (SIGKILL), the child process stays alive with
the whole model in memory, and the GPU is full for the next run. Therefore the child process ends itself when its parent
is gone.
"""

import multiprocessing
import os
import signal
import threading
import time

POLL_SECONDS = 0.5


def end_with_parent() -> None:
    """Starts a thread that ends this process when its parent is gone; does nothing if this is no child process."""
    if multiprocessing.parent_process() is None:
        return
    # multiprocessing's parent process may be a fork server; the parent of the operating system is watched instead.
    threading.Thread(target=_kill_without_parent, args=(os.getppid(),), name="end-with-parent", daemon=True).start()


def _kill_without_parent(parent: int) -> None:
    """Waits until the process has another parent, and kills it then."""
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
