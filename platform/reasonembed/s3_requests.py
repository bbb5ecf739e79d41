"""S3 requests that pyarrow's filesystem cannot make or cannot explain, with boto3; ``storage`` uses them."""

import os


def put_if_absent(uri: str, data: bytes) -> bool:
    """Creates an object with a conditional put; returns False when the object exists already."""
    import boto3
    from botocore.exceptions import ClientError

    bucket, key = _bucket_and_key(uri)
    try:
        boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=data, IfNoneMatch="*")
    except ClientError as error:
        if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") in (409, 412):
            return False
        raise
    return True


def probe_write(uri: str) -> None:
    """Writes and deletes an empty object. Compared with pyarrow, the errors come sooner and name the reason.

    Raises:
        OSError: the object cannot be written; the message is the reason.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError, NoCredentialsError

    bucket, key = _bucket_and_key(uri)
    one_attempt = Config(connect_timeout=4, read_timeout=8, retries={"total_max_attempts": 1})
    try:
        client = boto3.client("s3", config=one_attempt)
        client.put_object(Bucket=bucket, Key=key, Body=b"")
        client.delete_object(Bucket=bucket, Key=key)
    except ClientError as error:
        reasons = {
            "NoSuchBucket": f"bucket {bucket} does not exist",
            "InvalidAccessKeyId": "the key is refused (the server does not know AWS_ACCESS_KEY_ID)",
            "SignatureDoesNotMatch": "the key is refused (AWS_SECRET_ACCESS_KEY does not belong to AWS_ACCESS_KEY_ID)",
            "AccessDenied": f"the key is not allowed to write into bucket {bucket}",
        }
        raise OSError(reasons.get(error.response.get("Error", {}).get("Code", ""), str(error))) from None
    except NoCredentialsError:
        raise OSError("no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile") from None
    except (ConnectionError, HTTPClientError):
        raise OSError(f"no answer from {endpoint_url() or 'the S3 endpoint'}") from None
    except (BotoCoreError, ValueError) as error:
        raise OSError(str(error)) from None


def endpoint_url() -> str | None:
    """Returns the configured endpoint; None for AWS itself."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


def _bucket_and_key(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key
