"""Failed S3 requests as errors of one line that say what is wrong and how to mend it."""

import os
from typing import Any

from reasonembed.errors import JobFailed, UserError

CREDENTIAL_CODES = (
    "ExpiredToken",
    "ExpiredTokenException",
    "TokenRefreshRequired",
    "InvalidToken",
    "InvalidAccessKeyId",
)
"""S3's codes for credentials that it no longer accepts; the chain may have newer ones."""
UNAVAILABLE_STATUS = (500, 502, 503, 504)

_EXPIRED = "the credentials have expired; log in again, or set AWS_SESSION_TOKEN and the keys anew"
_REASONS = {
    "NoSuchBucket": "bucket {bucket} does not exist",
    "InvalidAccessKeyId": "the key is refused (the server does not know AWS_ACCESS_KEY_ID)",
    "SignatureDoesNotMatch": "the key is refused (AWS_SECRET_ACCESS_KEY does not belong to AWS_ACCESS_KEY_ID)",
    "AccessDenied": "the key is not allowed to {action} bucket {bucket}",
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "InvalidToken": "the key is refused (AWS_SESSION_TOKEN is not valid)",
    "RequestTimeTooSkewed": "the clock of this machine differs too much from that of the server",
    "PermanentRedirect": "bucket {bucket} is in another region; set AWS_REGION",
    "AuthorizationHeaderMalformed": "bucket {bucket} is in another region; set AWS_REGION",
    "NotImplemented": "{endpoint} does not support a request that this platform needs",
}


class S3AccessError(UserError, OSError):
    """Raised when S3 refuses a request; an ``OSError`` like any other failure of storage."""


class S3Unavailable(JobFailed, OSError):
    """Raised when S3 does not answer, or is overloaded, after all tries."""


def endpoint_url() -> str | None:
    """Returns the configured endpoint; None for AWS itself."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


def endpoint_name() -> str:
    """Returns how messages name the endpoint."""
    return endpoint_url() or "the S3 endpoint"


def error_code(error: Exception) -> str:
    """Returns S3's code of a failed request of boto3, such as ``NoSuchBucket``; "" where S3 has not answered."""
    return str(_response(error).get("Error", {}).get("Code", ""))


def http_status(error: Exception) -> int:
    """Returns the HTTP status of a failed request of boto3; 0 where S3 has not answered."""
    return int(_response(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _response(error: Exception) -> dict[str, Any]:
    response = getattr(error, "response", None)
    return response if isinstance(response, dict) else {}


def is_ambiguous(error: Exception) -> bool:
    """Returns whether a failed request of boto3 may have had its effect: the answer was lost, or its status is 5xx."""
    from botocore.exceptions import ConnectionError, HTTPClientError

    return isinstance(error, ConnectionError | HTTPClientError) or http_status(error) in UNAVAILABLE_STATUS


def translate(error: Exception, bucket: str, action: str = "write into") -> S3AccessError | S3Unavailable:
    """Returns the error of one line for a failed request of boto3.

    Args:
        error: as boto3 raised it.
        bucket: name of the bucket.
        action: what the request did, for a message about missing rights.
    """
    code, status, endpoint = error_code(error), http_status(error), endpoint_name()
    if is_ambiguous(error):
        return S3Unavailable(
            f"{endpoint} is overloaded or down (HTTP {status})" if status else f"no answer from {endpoint}"
        )
    if code in _REASONS or status == 403:
        reason = _REASONS[code] if code in _REASONS else _REASONS["AccessDenied"]
        return S3AccessError(reason.format(bucket=bucket, action=action, endpoint=endpoint))
    if status and (not code or code.isdigit()):
        return S3AccessError(f"{endpoint} does not answer as an S3 server does (HTTP {status})")
    return S3AccessError(_credentials_reason(error) or " ".join(str(error).split()))


def _credentials_reason(error: Exception) -> str | None:
    """Returns the reason why the chain has no usable credentials; None for any other error of boto3."""
    from botocore.exceptions import LoginError, NoCredentialsError, SSOError, TokenRetrievalError

    if isinstance(error, NoCredentialsError):
        return "no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile"
    return _EXPIRED if isinstance(error, SSOError | LoginError | TokenRetrievalError) else None
