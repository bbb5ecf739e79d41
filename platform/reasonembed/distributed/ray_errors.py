"""Expected errors of workers, unwrapped from Ray's exceptions. For ray==2.60.0.

Ray wraps what a worker raises: ``RayTaskError`` has the original exception in ``cause``, and Ray Train's
``WorkerGroupError`` has one exception per rank in ``worker_failures``. Ray Data keeps the original exception only with
``DataContext.raise_original_map_exception``, which ``distributed.data.datasets.data_context`` sets, and appends lines
about retries to its message. This module does not import Ray: jobs that do not use Ray start without it.
"""

from reasonembed.errors import JobFailed, UserError
from reasonembed.s3_filesystem import explain


def expected_error(error: BaseException) -> UserError | JobFailed | None:
    """Returns the error that ends a job on purpose, out of Ray's wrappers; None for a bug.

    Args:
        error: as the process of the job received it.
    """
    queue: list[tuple[BaseException, bool]] = [(error, False)]
    while queue:
        current, from_worker = queue.pop(0)
        cause = getattr(current, "cause", None)
        # Ray's wrapper is also an instance of the cause's class, with a whole traceback as its message.
        if isinstance(current, UserError | JobFailed) and cause is None:
            return _first_line(current) if from_worker else current
        if isinstance(current, OSError) and cause is None:
            explained = explain(current)  # a failed request to S3 inside Ray Data
            if isinstance(explained, UserError | JobFailed):
                return explained
        failures = getattr(current, "worker_failures", {}).values()
        wrapped = [(cause, True), *((failure, True) for failure in failures), (current.__cause__, from_worker)]
        queue += [(inner, remote) for inner, remote in wrapped if isinstance(inner, BaseException)]
    return None


def _first_line(error: UserError | JobFailed) -> UserError | JobFailed:
    """Returns the error without the lines that Ray Data appends; our own messages are one line."""
    first_line, *appended = str(error).split("\n")
    if not appended:
        return error
    return (UserError if isinstance(error, UserError) else JobFailed)(first_line)
