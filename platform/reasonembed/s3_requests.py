"""S3 requests that pyarrow's filesystem cannot make or cannot explain, with boto3; ``storage`` uses them."""

import os
import time
import uuid
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

from reasonembed.s3_errors import (
    CREDENTIAL_CODES,
    UNAVAILABLE_STATUS,
    S3Unavailable,
    error_code,
    http_status,
    is_ambiguous,
    translate,
)

TOTAL_ATTEMPTS = 12
"""Tries of a request by one client; the pauses between them double."""
PATIENCE_SECONDS = 100.0
"""For how long new clients go on after these tries. A client has a budget of about 35 retries, which others may use."""
CONFLICT_ATTEMPTS = 20
"""Tries of a conditional put while other writers of the same object are under way."""
PROBE_SECONDS = 6.0
"""For how long the probe repeats a request that is answered with 5xx."""
PROBE_CONNECT_SECONDS = 2.0
"""For how long the probe tries to connect."""
WRITER = "writer"
"""Metadata of an object that ``put_if_absent`` has created: a random id of the call."""

R = TypeVar("R")


def put_if_absent(uri: str, data: bytes) -> bool:
    """Creates an object with a conditional put; returns False when another call has created it.

    A repeated put finds the object that the first one has created when only the answer was lost. The object's metadata
    name the call that has created it.

    Raises:
        S3AccessError: S3 refuses the request.
        S3Unavailable: S3 does not answer after all tries, or conflicts with other writers do not end.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, key = _bucket_and_key(uri)
    writer = uuid.uuid4().hex
    condition = {"IfNoneMatch": "*", "Metadata": {WRITER: writer}}
    for attempt in range(CONFLICT_ATTEMPTS):
        try:
            _send(lambda client: client.put_object(Bucket=bucket, Key=key, Body=data, **condition))
        except (BotoCoreError, ClientError, ValueError) as error:
            # 412: the object exists. An ambiguous failure may have created it.
            if http_status(error) == 412 or is_ambiguous(error):
                creator = _creator(bucket, key, quickly=is_ambiguous(error))
                if creator is not None:
                    return creator == writer
                if http_status(error) != 412:
                    raise translate(error, bucket) from None
            elif http_status(error) != 409:
                raise translate(error, bucket) from None
            # 409: another conditional put of this object is under way and may fail. After 412 without an object it has
            # been deleted again.
            time.sleep(min(2.0, 0.05 * 2**attempt))
        else:
            return True
    raise S3Unavailable(
        f"{uri} cannot be created: conflicts with other writers did not end in {CONFLICT_ATTEMPTS} tries"
    )


def probe_write(uri: str) -> None:
    """Writes and deletes an empty object. Compared with other requests, the errors come within seconds.

    Raises:
        S3AccessError: S3 refuses the request.
        S3Unavailable: S3 does not answer.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, key = _bucket_and_key(uri)
    started = time.monotonic()
    action = "write into"
    for attempt in range(1_000):
        try:
            client = _new_client(attempts=1)
            client.put_object(Bucket=bucket, Key=key, Body=b"")
            action = "delete from"
            client.delete_object(Bucket=bucket, Key=key)
        except (BotoCoreError, ClientError, ValueError) as error:
            patience = PROBE_SECONDS if http_status(error) in UNAVAILABLE_STATUS else PROBE_CONNECT_SECONDS
            if not is_ambiguous(error) or time.monotonic() - started > patience:
                raise translate(error, bucket, action) from None
            time.sleep(min(1.0, 0.1 * 2**attempt))
        else:
            return


def check_access(bucket: str) -> None:
    """Lists one object, once, to find the reason why another request has failed.

    Raises:
        S3AccessError: S3 refuses the request.
        S3Unavailable: S3 does not answer.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        _new_client(attempts=1).list_objects_v2(Bucket=bucket, MaxKeys=1)
    except (BotoCoreError, ClientError, ValueError) as error:
        raise translate(error, bucket, "list") from None


def _creator(bucket: str, key: str, quickly: bool) -> str | None:
    """Returns the id of the call that has created an object; "" for an object of other origin, None where none is."""
    from botocore.exceptions import BotoCoreError, ClientError

    def head(client: Any) -> Any:
        return client.head_object(Bucket=bucket, Key=key)

    try:
        answer = head(_new_client(attempts=1)) if quickly else _send(head)
    except (BotoCoreError, ClientError) as error:
        if quickly or http_status(error) == 404:
            return None
        raise translate(error, bucket, "read") from None
    return str(answer.get("Metadata", {}).get(WRITER, ""))


def _send(request: Callable[[Any], R]) -> R:
    """Makes a request until S3 answers; if it no longer accepts the credentials, the chain is read again, once."""
    from botocore.exceptions import BotoCoreError, ClientError

    started = time.monotonic()
    may_renew = True
    while True:
        try:
            return request(_client(_environment()))
        except (BotoCoreError, ClientError) as error:
            expired = may_renew and error_code(error) in CREDENTIAL_CODES
            if not expired and not (is_ambiguous(error) and time.monotonic() - started < PATIENCE_SECONDS):
                raise
            may_renew = may_renew and not expired
        _client.cache_clear()


@lru_cache(maxsize=4)
def _client(environment: tuple[tuple[str, str], ...]) -> Any:
    """Returns the client of an environment; a new one takes a tenth of a second."""
    return _new_client(TOTAL_ATTEMPTS)


def _environment() -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_")))


def _new_client(attempts: int) -> Any:
    """Returns a client with the credentials that the chain has now.

    Args:
        attempts: tries of each request.
    """
    import boto3
    from botocore.config import Config

    one = attempts == 1
    retries: Any = {"mode": "adaptive", "total_max_attempts": attempts}
    config = Config(connect_timeout=4, read_timeout=8 if one else 30, retries=retries, max_pool_connections=16)
    # A session of its own: the default session keeps the credentials that it read first, and is not safe with threads.
    return boto3.Session().client("s3", config=config)


def _bucket_and_key(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key
