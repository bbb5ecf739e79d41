"""One process at a time holds a lease; a dead or silent holder is replaced, a live one is waited for."""

import json
import subprocess
import sys
import threading
import time

import pytest

from reasonembed import lease as leases
from reasonembed import storage
from reasonembed.lease import Lease, acquire


def never() -> bool:
    return False


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path / "stage" / ".lease")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(leases, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.05)


def holder_of_another_machine(folder: str, number: int, beat: int = 1) -> None:
    """Writes the lease of a process that cannot be looked up here."""
    state = {"host": "elsewhere", "machine": "another", "pid": 1, "started": 0.0, "beat": beat}
    storage.put_if_absent(storage.join(folder, f"{number:06d}"), json.dumps(state).encode())
    storage.write_bytes(storage.join(folder, f"{number:06d}.heartbeat"), json.dumps(state).encode())


def test_a_free_lease_is_taken_at_once(folder):
    lease = acquire(folder, never)
    assert isinstance(lease, Lease)
    assert lease.number == 1


def test_finished_work_needs_no_lease(folder):
    assert acquire(folder, lambda: True) is None
    assert storage.list_files(folder) == []


def test_a_released_lease_is_taken_at_once(folder):
    with acquire(folder, never):
        pass
    assert acquire(folder, never, expiry_seconds=60).number == 2


def test_of_many_processes_one_takes_the_lease(folder):
    taken = []

    def compete() -> None:
        lease = acquire(folder, lambda: bool(taken), expiry_seconds=60)
        if lease is not None:
            taken.append(lease.number)

    threads = [threading.Thread(target=compete) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert taken == [1]


def test_a_live_holder_is_waited_for_and_its_result_is_used(folder):
    finished = threading.Event()
    announced = []
    with acquire(folder, never):
        threading.Timer(0.3, finished.set).start()
        assert acquire(folder, finished.is_set, announced.append, expiry_seconds=0.2) is None
    assert len(announced) == 1
    assert announced[0].startswith("process ")


def test_a_holder_of_another_machine_loses_the_lease_when_its_heartbeat_stops(folder):
    holder_of_another_machine(folder, 1)
    started = time.monotonic()
    assert acquire(folder, never, expiry_seconds=0.3).number == 2
    assert time.monotonic() - started >= 0.3


def test_a_changing_heartbeat_keeps_the_lease_whatever_its_clock_says(folder):
    holder_of_another_machine(folder, 1)
    stop = threading.Event()

    def beat() -> None:
        number = 1
        while not stop.wait(0.05):
            number += 1
            holder_of_another_machine(folder, 1, beat=number)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        end = time.monotonic() + 1
        assert acquire(folder, lambda: time.monotonic() > end, expiry_seconds=0.3) is None
    finally:
        stop.set()
        thread.join()


def test_a_dead_process_of_this_machine_is_not_waited_for(folder):
    code = (
        "import sys; from reasonembed import lease; l = lease.acquire(sys.argv[1], lambda: False); l.__enter__();"
        "import os; os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, folder], check=False)
    started = time.monotonic()
    assert acquire(folder, never, expiry_seconds=60).number == 2
    assert time.monotonic() - started < 5


def test_a_damaged_heartbeat_expires(folder):
    holder_of_another_machine(folder, 1)
    storage.write_bytes(storage.join(folder, "000001.heartbeat"), b"{")
    assert acquire(folder, never, expiry_seconds=0.2).number == 2
