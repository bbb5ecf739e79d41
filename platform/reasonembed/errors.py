"""The two ways in which a job may fail on purpose; everything else is a bug and keeps its traceback."""


class UserError(Exception):
    """Bad input: one line that says what is wrong, where, and how to mend it. Jobs exit with 2."""

    exit_code = 2


class JobFailed(Exception):
    """The input was fine, yet the work did not succeed (too many rejected rows, say). Jobs exit with 1."""

    exit_code = 1
