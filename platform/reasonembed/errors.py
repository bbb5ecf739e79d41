"""The two ways in which a job may fail on purpose; everything else is a bug and keeps its traceback."""

import re

# Ray Data's wrapper of what a worker raised loses it on its way to the driver, but for the text.
_LOST_CAUSE = re.compile(
    r"^reasonembed\.errors\.(?P<kind>UserError|JobFailed): (?P<says>.*)\n\n"
    r"The above exception was the direct cause of the following exception:\n\n(.*\n)?.*UserCodeException",
    re.MULTILINE,
)


class UserError(Exception):
    """Bad input: one line that says what is wrong, where, and how to mend it. Jobs exit with 2."""

    exit_code = 2


class JobFailed(Exception):
    """The input was fine, yet the work did not succeed (too many rejected rows, say). Jobs exit with 1."""

    exit_code = 1


def intended(error: BaseException) -> "UserError | JobFailed | None":
    """The error that a job means to end with, out of what Ray wrapped around it in a worker; None for a bug."""
    waiting = [error]
    while waiting:
        found = waiting.pop(0)
        wrapped = getattr(found, "cause", None)
        # Ray's wrapper is an instance of what it wraps, with a whole traceback for a message.
        if isinstance(found, UserError | JobFailed) and wrapped is None:
            return found
        if wrapped is not None and (lost := _LOST_CAUSE.search(str(found))):
            return (UserError if lost["kind"] == "UserError" else JobFailed)(lost["says"])
        inner = [wrapped, found.__cause__, *getattr(found, "worker_failures", {}).values()]
        waiting += [value for value in inner if isinstance(value, BaseException)]
    return None
