"""A language model that fails while a stage runs: no answer is lost, and the next run asks for the rows without one.

A worker that notices the failure reports it to the driver, returns the rows that were answered, and leaves out the
others. These are not written, and therefore not in Ray Data's checkpoint. The error is raised when all answers are
written: an error of a worker would stop the dataset at once, and the answers that wait to be written would be lost.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import ray

from reasonembed.distributed.data.worker_pool import Transform
from reasonembed.llm.circuit_breaker import EngineUnavailable
from reasonembed.llm.reject_reasons import is_transport, was_processed

OUTAGE_ROWS = 5
"""Rows of a batch that must all have failed for an outage; in a smaller batch it can be chance."""


def batch_failure(reasons: Sequence[str | None]) -> str | None:
    """Returns what is wrong if no row of a batch was processed and at least ``OUTAGE_ROWS`` have failed.

    Args:
        reasons: reject reason of every row; None for an accepted row.
    """
    failures = Counter(reason for reason in reasons if is_transport(reason))
    if failures.total() < OUTAGE_ROWS or any(was_processed(reason) for reason in reasons):
        return None
    [(reason, _)] = failures.most_common(1)
    return f"all {failures.total()} requests of a batch have failed ({reason})"


def report_outage(error: EngineUnavailable, usage: Any) -> Any:
    """Reports the failure to the driver and returns the reference of the call, which the worker must wait for.

    Args:
        error: of the language model.
        usage: handle of the counting actor; None raises the error here.
    """
    if usage is None:
        raise error
    return usage.report_outage.remote(str(error))


class GuardedDataset:
    """A dataset that is written completely before an outage of the language model is raised.

    Args:
        rows: the dataset.
        usage: handle of the counting actor.
    """

    def __init__(self, rows: ray.data.Dataset, usage: Any) -> None:
        self._rows, self._usage = rows, usage

    def write_parquet(self, path: str, **options: Any) -> None:
        """Writes the rows that were answered.

        Raises:
            EngineUnavailable: a worker has reported an outage.
        """
        self._rows.write_parquet(path, **options)
        message = ray.get(self._usage.outage.remote())
        if message is not None:
            raise EngineUnavailable(message)


def guarded(transform: Transform, usage: Any) -> Transform:
    """Returns a transform to a ``GuardedDataset``.

    Args:
        transform: to the rows of the intermediate files.
        usage: handle of the counting actor.
    """
    return lambda rows: GuardedDataset(transform(rows), usage)
