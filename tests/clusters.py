"""Real Ray clusters on this machine: a head with dashboard and token, and machines started by its autoscaler."""

import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import ray
import requests
from processes import free_port, responds, start_process, wait_for
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID

BIN = Path(sys.executable).parent
IDLE_SECONDS = 20  # longer than a Ray worker takes to start
FAKE_MACHINES = {
    "RAY_FAKE_CLUSTER": "1",
    "RAY_enable_autoscaler_v2": "1",
    "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "PYTHONPATH": str(Path(__file__).parent),  # for the module fake_machines
}


@dataclass(frozen=True)
class Head:
    """A running head of a Ray cluster."""

    address: str
    """URL of the dashboard."""
    session: Path
    """Folder of Ray's session, which holds its logs."""
    env: dict[str, str]
    """Variables with which a client may use the cluster."""
    process: subprocess.Popen[str]
    """``ray start``."""

    def machines(self, pool: str) -> set[str]:
        """Returns the ids of the machines of a pool that are alive."""
        response = requests.get(f"{self.address}/api/v0/nodes?detail=true", headers=self.headers, timeout=30).json()
        nodes = response["data"]["result"]["result"]
        return {n["node_id"] for n in nodes if n["state"] == "ALIVE" and n["labels"].get("ray-subcluster") == pool}

    @property
    def headers(self) -> dict[str, str]:
        """HTTP headers with which a client may use the dashboard."""
        return {"Authorization": f"Bearer {self.env['RAY_AUTH_TOKEN']}"}


@contextmanager
def running_head(*arguments: str, node_types: dict[str, dict[str, Any]] | None = None, **env: str) -> Iterator[Head]:
    """Runs ``ray start --head`` with a token of its own; the head and all it has started end with the block.

    Args:
        arguments: further arguments of ``ray start``.
        node_types: ``available_node_types`` of machines that the autoscaler starts on demand, and ends when they have
            been idle for ``IDLE_SECONDS``; the head then has no CPUs.
        env: variables of the head and all machines.
    """
    # Not in pytest's folder: the sockets in it may have paths of at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        yield from _head(Path(folder), arguments, node_types, env)


def _head(
    folder: Path, arguments: tuple[str, ...], node_types: dict[str, dict[str, Any]] | None, env: dict[str, str]
) -> Iterator[Head]:
    port, dashboard = free_port(), free_port()
    if node_types is not None:
        arguments += (f"--autoscaling-config={_autoscaling_config(folder, port, node_types)}", "--num-cpus=0")
        env = FAKE_MACHINES | env
    token = secrets.token_hex(32)
    auth = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    shared = {
        # Jobs are started by `python`, as on a machine of a cluster.
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    command = (
        *(BIN / "ray", "start", "--head", "--block", "--disable-usage-stats"),
        *(f"--port={port}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={free_port()}"),
        *(f"--dashboard-agent-listen-port={free_port()}", "--min-worker-port=0", "--max-worker-port=0"),
        *("--include-dashboard=true", f"--temp-dir={folder}", "--object-store-memory=300000000"),
        *arguments,
    )
    log = (folder / "head.log").open("w")
    process = start_process(command, log, log, {**shared, **auth, **env})
    address = f"http://127.0.0.1:{dashboard}"
    try:
        wait_for(lambda: responds(f"{address}/api/version", 200, 401, 403), process, 120)
        yield Head(address, (folder / "session_latest").resolve(), auth, process)
    finally:
        _end(process, folder)
        print((folder / "head.log").read_text())  # pytest shows the log of a failed test  # noqa: T201


def _end(process: subprocess.Popen[str], folder: Path) -> None:
    process.kill()  # on SIGTERM a head would first wait half a minute for its machines
    process.wait()
    # The machines of the autoscaler are not children of the head, and the command lines of their engines do not name
    # the folder.
    for machine in psutil.process_iter(["cmdline"]):
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if str(folder) in " ".join(machine.info["cmdline"] or []):
                for member in (machine, *machine.children(recursive=True)):
                    with suppress(psutil.NoSuchProcess):
                        member.kill()


def _autoscaling_config(folder: Path, port: int, node_types: dict[str, dict[str, Any]]) -> Path:
    """Writes a config of the autoscaler whose machines are processes: Ray's fake multi-node provider."""
    provider = {
        "type": "external",
        "module": "fake_machines.FakeMachines",
        "folder": str(folder),
        "gcs_address": f"{ray.util.get_node_ip_address()}:{port}",
        "head_node_id": FAKE_HEAD_NODE_ID,
        "launch_multiple": True,
        "disable_node_updaters": True,
    }
    head_type = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
    config: dict[str, Any] = {
        "cluster_name": "fake",
        "max_workers": 8,
        "idle_timeout_minutes": IDLE_SECONDS / 60,
        "upscaling_speed": 10,
        "provider": provider,
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": head_type,
            **{name: {"node_config": {}, "min_workers": 0, **node_type} for name, node_type in node_types.items()},
        },
        "file_mounts_sync_continuously": False,
    }
    config |= {name: {} for name in ("docker", "auth", "file_mounts")}
    config |= {name: [] for name in ("cluster_synced_files", "rsync_exclude", "rsync_filter")}
    steps = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    config |= {f"{step}_commands": [] for step in steps}
    path = folder / "autoscaling.json"
    path.write_text(json.dumps(config))
    return path
