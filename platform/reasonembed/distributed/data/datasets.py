"""Ray Data's settings for this platform, and the reading of Parquet files."""

import logging
from collections.abc import Sequence
from typing import Any

import ray.data

from reasonembed import storage
from reasonembed.config import Resources
from reasonembed.distributed.default_resources import default_resources


def data_context(resources: Resources | None = None) -> ray.data.DataContext:
    """Returns Ray Data's context, set to the node pool of the resources; of ``cluster.data`` when none are given."""
    context = ray.data.DataContext.get_current()
    context.execution_options.label_selector = (resources or default_resources()).labels or None
    # The second version of the reader starts 32 actors per read on any node with a CPU: an autoscaler would start GPU
    # nodes for them, and a small stage takes twice as long.
    context.use_datasource_v2 = False
    # Errors of workers arrive as they were raised, so that jobs can end with one line (``ray_errors``).
    context.raise_original_map_exception = True
    # Ray Data would print their tracebacks, and its progress bars every ten seconds; importing it resets the level.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    return context


def read_rows(uris: Sequence[str], resources: Resources | None = None, **options: Any) -> ray.data.Dataset:
    """Returns the rows of Parquet files as a dataset that is processed in the node pool of the resources.

    Args:
        uris: files, on one filesystem.
        resources: whose node pool; default ``cluster.data``.
        options: for ``ray.data.read_parquet``.
    """
    context = data_context(resources)
    # Reading the files' metadata would show a progress bar of its own.
    show_progress, context.enable_progress_bars = context.enable_progress_bars, False
    try:
        paths, filesystem = [storage.open_filesystem(uri)[1] for uri in uris], storage.open_filesystem(uris[0])[0]
        rows = ray.data.read_parquet(paths, filesystem=filesystem, **options)
    finally:
        context.enable_progress_bars = show_progress
    rows.context.enable_progress_bars = show_progress
    return rows
