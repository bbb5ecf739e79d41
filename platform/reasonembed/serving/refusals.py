"""The error with which the endpoint refuses a request."""


class RequestRefused(Exception):
    """A request is refused; becomes the error response.

    Args:
        status: HTTP status.
        code: error code for programs.
        message: for people.
        retry_after: seconds after which the request may succeed; 0 if it never will.
    """

    def __init__(self, status: int, code: str, message: str, retry_after: int = 0) -> None:
        super().__init__(status, code, message, retry_after)  # Without all arguments it could not be pickled.
        self.status, self.code, self.message, self.retry_after = status, code, message, retry_after

    def __str__(self) -> str:
        return self.message
