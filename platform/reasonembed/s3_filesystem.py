"""pyarrow's filesystem of S3 with patience for a store that is overloaded or gone for a minute."""

import os
import re
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import pyarrow.fs as pafs

from reasonembed.s3_errors import S3AccessError, S3Unavailable, endpoint_url
from reasonembed.s3_requests import check_access

RETRIES = 12
"""Tries after the first one. The pauses begin at 50 ms, double, and last 102 s together."""

P = ParamSpec("P")
T = TypeVar("T")

_BUCKET = re.compile(r"bucket '([^']+)'")


class RetryingS3FileSystem(pafs.S3FileSystem):  # type: ignore[misc]
    """S3 with many retries, in this process and in those that receive it pickled.

    pyarrow drops the retry strategy when it pickles a filesystem, as Ray does for its workers. Of pyarrow's two
    strategies the "standard" one has a budget of about 100 retries that pyarrow never refills; the "default" one has
    none.

    An upload in several parts begins with the tenth megabyte; smaller files are one request, which cannot leave an
    unfinished upload behind.

    Args:
        options: of ``pyarrow.fs.S3FileSystem``.
    """

    def __init__(self, **options: Any) -> None:
        self._options = options
        super().__init__(
            **options,
            connect_timeout=5,
            request_timeout=30,
            allow_delayed_open=True,
            retry_strategy=pafs.AwsDefaultS3RetryStrategy(max_attempts=RETRIES),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _open, (self._options,)


def _open(options: dict[str, Any]) -> RetryingS3FileSystem:
    return RetryingS3FileSystem(**options)


def open_s3() -> RetryingS3FileSystem:
    """Returns the filesystem of the configured endpoint and region."""
    options: dict[str, Any] = {}
    if endpoint := endpoint_url():
        scheme, _, host = endpoint.rpartition("://")
        options |= {"endpoint_override": host, "scheme": scheme or "https"}
    if region := os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"):
        options["region"] = region
    return RetryingS3FileSystem(**options)


def explain(error: OSError) -> OSError:
    """Returns the error of one line for a failed request of pyarrow's S3 filesystem; any other error as it is.

    Answers to some requests have no body with a code, so that another request must find the reason.

    Args:
        error: as pyarrow raised it.
    """
    text = " ".join(str(error).split())
    bucket = _BUCKET.search(text)
    if isinstance(error, S3AccessError | S3Unavailable | FileNotFoundError) or "AWS Error" not in text or not bucket:
        return error
    denied = "ACCESS_DENIED" in text or "HTTP status 403" in text
    try:
        check_access(bucket[1])
    except S3AccessError as reason:
        # A key that may read an object may not be allowed to list the bucket.
        if denied or "not allowed" not in str(reason):
            return reason
    except S3Unavailable as reason:
        return reason
    if denied:
        return S3AccessError(f"the key is not allowed to do this in bucket {bucket[1]}: {text}")
    return S3Unavailable(f"S3 failed: {text}")


def explained(function: Callable[P, T]) -> Callable[P, T]:
    """Makes the failures of a function on S3 errors of one line; see ``explain``."""

    @wraps(function)
    def call(*arguments: P.args, **keywords: P.kwargs) -> T:
        try:
            return function(*arguments, **keywords)
        except OSError as error:
            if (reason := explain(error)) is error:
                raise
            raise reason from None

    return call
