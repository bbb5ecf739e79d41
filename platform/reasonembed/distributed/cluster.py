"""Starts Ray on this machine, or joins the cluster that ``RAY_ADDRESS`` names (``ray job submit`` sets it), and runs
single functions on its workers."""

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from reasonembed.config import Resources
from reasonembed.distributed.default_resources import default_resources
from reasonembed.distributed.local_token import require_token
from reasonembed.distributed.ray_auth_internals import apply_auth_mode

# glibc returns large blocks to the system at once and faults them in again at every forward pass; keeping up to 256 MiB
# makes encoding and training on a CPU at least a third faster. More than that would only increase the workers' memory.
WORKER_ENV = {
    "MALLOC_MMAP_THRESHOLD_": str(256 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
    "MALLOC_ARENA_MAX": "2",
    # oneDNN caches its plan for each batch shape, 1,024 of them by default: an endpoint would grow for an hour.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "32",
    "TOKENIZERS_PARALLELISM": "false",
    "VLLM_NO_USAGE_STATS": "1",
    # Several engines on one machine must not all bind themselves to its first cores.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PYTHONWARNINGS": "ignore",
}
"""Environment of all workers."""
LOCAL_ENV = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_metrics_report_interval_ms": "5000",  # otherwise a short stage ends before its metrics are exported
    # Engines are Ray's workers; with the default niceness of 15 every other process of the machine would go first.
    "RAY_worker_niceness": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""Settings of a Ray that this process starts; variables of the environment take precedence."""
OBJECT_STORE_BYTES = 512 << 20


def start_ray() -> None:
    """Starts or joins Ray, unless this process has done so before."""
    if ray.is_initialized():
        return
    logging.getLogger("ray.llm").setLevel(logging.WARNING)
    # No output of workers in the terminal: errors come back as exceptions, and the rest is in Ray's session folder.
    if os.environ.get("RAY_ADDRESS"):
        ray.init(runtime_env={"env_vars": WORKER_ENV}, logging_level=logging.WARNING, log_to_driver=False)
        return
    require_token()
    apply_auth_mode()
    # Inherited by every worker, which starts faster than with a runtime environment.
    for name, value in {**LOCAL_ENV, **WORKER_ENV}.items():
        os.environ.setdefault(name, value)
    ray.init(
        address="local",
        # Ray Data reserves one CPU for its checkpoint filter; beside two actors on two CPUs it would wait forever.
        num_cpus=max(4, os.cpu_count() or 1),
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        logging_level=logging.WARNING,
        log_to_driver=False,
    )


def run_all(function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], resources: Resources) -> list[Any]:
    """Calls a function on workers, once for each tuple of arguments, and returns the results in order."""
    start_ray()
    remote = ray.remote(**resources.options)(function)
    return list(ray.get([remote.remote(*arguments) for arguments in calls]))


def run_remote(
    function: Callable[..., Any], *arguments: Any, resources: Resources | None = None, **keywords: Any
) -> Any:
    """Calls a function on one worker, with the default resources unless others are named, and returns its result."""
    start_ray()
    options = (resources or default_resources()).options
    return ray.get(ray.remote(**options)(function).remote(*arguments, **keywords))


def on_driver_node() -> dict[str, Any]:
    """Returns options that keep an actor on the driver's node; on a spot node it could be lost before the driver."""
    node = ray.get_runtime_context().get_node_id()
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)}
