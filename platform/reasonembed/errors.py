"""The errors that end a job on purpose; any other exception is a bug and is shown with its traceback."""


class UserError(Exception):
    """Invalid input: one line that says what is wrong, where, and how to fix it. Jobs exit with 2."""

    exit_code = 2


class JobFailed(Exception):
    """Failure of a job with valid input, such as too many rejected rows: one line. Jobs exit with 1."""

    exit_code = 1
