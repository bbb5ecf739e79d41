"""Start Ray on this machine, or join the cluster that ``RAY_ADDRESS`` names (``ray job submit`` sets it)."""

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from reasonembed import storage
from reasonembed.config import Resources
from reasonembed.distributed.placement import default_resources

# glibc gives large blocks back to the system at once and faults them in again at every forward pass; keeping a quarter
# of a gigabyte makes encoding and training on a CPU a third faster or more. More would only grow the workers.
WORKER_ENV = {
    "MALLOC_MMAP_THRESHOLD_": str(256 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
    "MALLOC_ARENA_MAX": "2",
    # oneDNN keeps its plan for each shape of batch that it has met, 1024 of them: an endpoint would grow for an hour.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "32",
    "TOKENIZERS_PARALLELISM": "false",
    "VLLM_NO_USAGE_STATS": "1",
    # Several engines on one machine must not all bind themselves to its first cores.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PYTHONWARNINGS": "ignore",
}
OBJECT_STORE_BYTES = 512 << 20


def start_ray() -> None:
    """Does nothing when Ray is up already."""
    if ray.is_initialized():
        return
    # Ray Data's log repeats its progress bars in ten lines every ten seconds, and warns of a hang while the actors of
    # the stage before are still going; its full log is in Ray's session folder.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    logging.getLogger("ray.llm").setLevel(logging.WARNING)
    logging.getLogger("ray._private.worker").setLevel(logging.WARNING)
    # In both cases: what fails comes back as an exception; what workers print is in Ray's session folder.
    if os.environ.get("RAY_ADDRESS"):
        ray.init(runtime_env={"env_vars": WORKER_ENV}, logging_level=logging.WARNING, log_to_driver=False)
        return
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # nobody but this process talks to this cluster
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    os.environ.setdefault("RAY_metrics_report_interval_ms", "5000")  # the meter of a short stage needs them in time
    # Engines are Ray's workers; at its default of 15 they would stand behind everything else on the machine.
    os.environ.setdefault("RAY_worker_niceness", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Inherited by every worker, which starts sooner so than through a runtime environment.
    for name, value in WORKER_ENV.items():
        os.environ.setdefault(name, value)
    ray.init(
        address="local",
        # Ray Data holds one CPU back for its checkpoint filter; with two it would wait for ever beside two actors.
        num_cpus=max(4, os.cpu_count() or 1),
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        logging_level=logging.WARNING,
        log_to_driver=False,
    )


def run_all(function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], place: Resources) -> list[Any]:
    """Call a function on workers at a place, once for each tuple of arguments, and wait for the results."""
    start_ray()
    remote = ray.remote(**place.options)(function)
    return list(ray.get([remote.remote(*arguments) for arguments in calls]))


def run_remote(function: Callable[..., Any], *arguments: Any, place: Resources | None = None, **keywords: Any) -> Any:
    """Call a function on a worker of the cluster, at ``cluster.data`` or another place, and wait for its result."""
    start_ray()
    options = (place or default_resources()).options
    return ray.get(ray.remote(**options)(function).remote(*arguments, **keywords))


def data_context(place: Resources | None = None) -> "ray.data.DataContext":
    """Ray Data's context, which sends all that it runs to the pool of one place, ``cluster.data`` or another."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.execution_options.label_selector = (place or default_resources()).labels or None
    # The second kind of reader starts 32 actors for every read, wherever there is a CPU: an autoscaler would start GPU
    # machines for them, and a small stage takes twice the time.
    context.use_datasource_v2 = False
    return context


def read_rows(uris: Sequence[str], place: Resources | None = None, **options: Any) -> "ray.data.Dataset":
    """Rows of Parquet files, to be worked on in the pool of a place."""
    import ray.data

    context = data_context(place)
    shown, context.enable_progress_bars = context.enable_progress_bars, False  # a look into the files has one too
    try:
        paths, fs = [storage.open_filesystem(uri)[1] for uri in uris], storage.open_filesystem(uris[0])[0]
        rows = ray.data.read_parquet(paths, filesystem=fs, **options)
    finally:
        context.enable_progress_bars = shown
    rows.context.enable_progress_bars = shown
    return rows


def on_driver_node() -> dict[str, Any]:
    """Options of an actor that shares this process's fate: on a spot node it would be lost before."""
    node = ray.get_runtime_context().get_node_id()
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)}
