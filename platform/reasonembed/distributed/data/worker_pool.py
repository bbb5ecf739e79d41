"""Pools of workers for ``map_batches`` and ``map_groups``: cached tasks for small workers, actors for large ones."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import ray

from reasonembed.artifacts import Artifact
from reasonembed.config import Resources
from reasonembed.distributed.data.worker_cache import CachedWorker, Worker
from reasonembed.distributed.default_resources import default_resources

Transform = Callable[[ray.data.Dataset], ray.data.Dataset]
SMALL_BYTES = 256 << 20
"""Largest size, as files, of what a cached worker loads: every idle process of a node may hold it for a while."""


class ActorWorker:
    """A worker that lives in an actor of its own.

    Args:
        make_worker: builds the worker.
    """

    def __init__(self, make_worker: Callable[[], Worker]) -> None:
        self._worker = make_worker()

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Returns the worker's rows for a batch."""
        return self._worker(batch)


class SchemaWorker:
    """A worker whose rows are cast to a schema, because a column that is all null in one block would otherwise get
    another type there than in the other blocks.

    Args:
        make_worker: builds the worker.
        schema: of its rows.
    """

    def __init__(self, make_worker: Callable[[], Worker], schema: pa.Schema) -> None:
        self._worker = make_worker()
        self._schema = schema

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Returns the worker's rows for a batch."""
        return self._worker(batch).select(self._schema.names).cast(self._schema)


def pool_options(
    make_worker: Callable[[], Worker], workers: int, resources: Resources, reads: Sequence[Artifact] = ()
) -> dict[str, Any]:
    """Returns the arguments of ``map_batches`` or ``map_groups`` that run a pool of workers.

    Small workers on one core are tasks, in processes that have imported what they need (``worker_cache``). A worker
    with a GPU, with several cores, or that loads much data is an actor: there are never more of them than ``workers``,
    and they end with the stage. A pool on GPUs works with fewer actors where there are fewer GPUs.

    Args:
        make_worker: builds a worker; called once by each.
        workers: how many.
        resources: of each.
        reads: artifacts that each loads into memory.
    """
    options = {"num_cpus": resources.cpus, "num_gpus": resources.gpus or None}
    size = sum(entry.size for artifact in reads for entry in artifact.files)
    if resources.gpus or resources.cpus > 1 or size > SMALL_BYTES:
        compute = ray.data.ActorPoolStrategy(min_size=1 if resources.gpus else workers, max_size=workers)
        return {"fn": ActorWorker, "fn_constructor_args": (make_worker,), "compute": compute, **options}
    return {"fn": CachedWorker(make_worker), "compute": ray.data.TaskPoolStrategy(size=workers), **options}


def worker_pool(
    make_worker: Callable[[], Worker],
    schema: pa.Schema,
    workers: int,
    resources: Resources | None = None,
    reads: Sequence[Artifact] = (),
) -> Transform:
    """Returns a transform that maps blocks to rows of a schema on a pool of workers.

    Args:
        make_worker: builds a worker.
        schema: of its rows.
        workers: how many.
        resources: of each; default ``cluster.data``.
        reads: artifacts that each loads into memory.
    """
    pool = pool_options(partial(SchemaWorker, make_worker, schema), workers, resources or default_resources(), reads)
    return lambda rows: rows.map_batches(batch_size=None, batch_format="pyarrow", zero_copy_batch=True, **pool)
