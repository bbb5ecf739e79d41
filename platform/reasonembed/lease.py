"""Leases: the right to build one artifact, which one process holds at a time.

A lease is a numbered object in a folder. Creating number n + 1 takes the lease over from the holder of number n.
Storage allows each number to be created once, so that exactly one of several processes takes it. The holder rewrites a
second object, its heartbeat, every few seconds. Other processes wait while the heartbeat changes. They measure the time
by their own monotonic clock, so that the clocks of machines need not agree.

A holder that was paused for long may write on after it has lost the lease. It does no harm: each attempt writes into a
folder of its own, and only one attempt is committed (``artifacts``). The lease saves work; it does not guard data.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from reasonembed import storage

HEARTBEAT_SECONDS = 5.0
EXPIRY_SECONDS = 30.0
"""A lease whose heartbeat has not changed for so long has lost its holder."""
POLL_SECONDS = 0.5
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Lease:
    """The right to build the artifact of one folder; a context manager that gives it back at the end.

    Args:
        folder: URI of the lease's objects.
        number: of this holder.
    """

    def __init__(self, folder: str, number: int) -> None:
        self._folder = folder
        self.number = number
        self._holder = _this_process()
        self._beats = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat_until_stopped, name="lease-heartbeat", daemon=True)

    def __enter__(self) -> "Lease":
        self._beat()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=EXPIRY_SECONDS)
        with suppress(OSError):  # the folder may be gone with the finished stage
            self._beat(released=True)

    def _beat_until_stopped(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            # A store that does not answer for a moment must not end the heartbeat.
            with suppress(Exception):
                self._beat()

    def _beat(self, released: bool = False) -> None:
        self._beats += 1
        state = {**self._holder, "beat": self._beats, "released": released}
        storage.write_bytes(_heartbeat(self._folder, self.number), json.dumps(state).encode())


def acquire(
    folder: str,
    is_finished: Callable[[], bool],
    on_wait: Callable[[str], None] = lambda holder: None,
    expiry_seconds: float = EXPIRY_SECONDS,
) -> Lease | None:
    """Waits for the lease of a folder.

    Args:
        folder: URI of the lease's objects.
        is_finished: whether the work is done; checked before each try.
        on_wait: called once with a description of the holder when another process has the lease.
        expiry_seconds: see ``EXPIRY_SECONDS``.

    Returns:
        The lease, or None once the work is done.
    """
    watch = _Watch(folder, expiry_seconds)
    announced = False
    while not is_finished():
        number, holder = watch.current()
        if holder is None:
            lease = Lease(folder, number + 1)
            if storage.put_if_absent(_claim(folder, lease.number), json.dumps(_this_process()).encode()):
                # The last holder may have finished between the two looks at storage.
                return None if is_finished() else lease
            continue
        if not announced:
            on_wait(f"process {holder.get('pid')} on {holder.get('host')}")
            announced = True
        time.sleep(POLL_SECONDS)
    return None


class _Watch:
    """Observes the newest lease of a folder.

    Args:
        folder: URI of the lease's objects.
        expiry_seconds: see ``EXPIRY_SECONDS``.
    """

    def __init__(self, folder: str, expiry_seconds: float) -> None:
        self._folder, self._expiry_seconds = folder, expiry_seconds
        self._last: tuple[int, bytes] | None = None
        self._changed = time.monotonic()

    def current(self) -> tuple[int, dict[str, Any] | None]:
        """Returns the newest number (0 for none) and its holder; None where the lease is free or has expired."""
        numbers = [int(name) for name in storage.list_files(self._folder) if name.isdigit()]
        if not numbers:
            return 0, None
        number = max(numbers)
        state = self._read(number)
        if (number, state) != self._last:
            self._last, self._changed = (number, state), time.monotonic()
        try:
            holder: dict[str, Any] = json.loads(state)
        except ValueError:
            holder = {}
        expired = time.monotonic() - self._changed > self._expiry_seconds
        return number, None if holder.get("released") or expired or _has_died(holder) else holder

    def _read(self, number: int) -> bytes:
        """Returns the heartbeat, or before the first one the claim."""
        for uri in (_heartbeat(self._folder, number), _claim(self._folder, number)):
            with suppress(FileNotFoundError):
                return storage.read_bytes(uri)
        return b""


def _claim(folder: str, number: int) -> str:
    return storage.join(folder, f"{number:06d}")


def _heartbeat(folder: str, number: int) -> str:
    return f"{_claim(folder, number)}.heartbeat"


def _this_process() -> dict[str, Any]:
    process = psutil.Process()
    return {
        "host": socket.gethostname(),
        "machine": _machine(),
        "pid": process.pid,
        "started": process.create_time(),
    }


def _machine() -> str:
    """Returns what identifies this boot of this machine and its process ids; containers have ids of their own."""
    try:
        return f"{BOOT_ID.read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _has_died(holder: dict[str, Any]) -> bool:
    """Returns whether the holder was a process of this machine that no longer runs; there is no need to wait for it."""
    if not holder.get("machine") or holder["machine"] != _machine() or holder.get("host") != socket.gethostname():
        return False
    try:
        started = psutil.Process(int(holder["pid"])).create_time()
        return bool(abs(started - float(holder["started"])) > 1)
    except (psutil.NoSuchProcess, KeyError, ValueError):
        return True


def is_held(folder: str, expiry_seconds: float = EXPIRY_SECONDS) -> bool:
    """Returns whether a process holds the lease of a folder; observes an unclear one until its heartbeat changes.

    Args:
        folder: URI of the lease's objects.
        expiry_seconds: how long to observe at most.
    """
    watch = _Watch(folder, expiry_seconds)
    first = watch.current()
    while (current := watch.current())[1] is not None:
        if current != first:
            return True
        time.sleep(POLL_SECONDS)
    return False
