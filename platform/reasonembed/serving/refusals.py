"""Why a request is not answered."""


class RequestRefused(Exception):
    """
    Args:
        status: of HTTP.
        code: for programs.
        message: for people.
        retry_after: seconds after which the request may do better; 0 for never.
    """

    def __init__(self, status: int, code: str, message: str, retry_after: int = 0) -> None:
        super().__init__(status, code, message, retry_after)  # all of them, or it could not be pickled
        self.status, self.code, self.message, self.retry_after = status, code, message, retry_after

    def __str__(self) -> str:
        return self.message
