import pickle

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, NoCredentialsError, SSOTokenLoadError

from reasonembed.errors import JobFailed, UserError
from reasonembed.s3_errors import S3AccessError, S3Unavailable, endpoint_name, endpoint_url, is_ambiguous, translate


@pytest.fixture(autouse=True)
def no_endpoint(monkeypatch):
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)


def client_error(status, code):
    response = {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "PutObject")


def test_the_endpoint_of_s3_takes_precedence(monkeypatch):
    assert endpoint_url() is None
    assert endpoint_name() == "the S3 endpoint"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://all")
    assert endpoint_url() == "http://all"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3")
    assert endpoint_url() == endpoint_name() == "http://s3"


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (client_error(404, "NoSuchBucket"), S3AccessError, "bucket b does not exist"),
        (client_error(403, "AccessDenied"), S3AccessError, "the key is not allowed to list bucket b"),
        (client_error(403, "403"), S3AccessError, "the key is not allowed to list bucket b"),
        (client_error(301, "PermanentRedirect"), S3AccessError, "bucket b is in another region; set AWS_REGION"),
        (client_error(503, "SlowDown"), S3Unavailable, "the S3 endpoint is overloaded or down (HTTP 503)"),
        (client_error(400, "400"), S3AccessError, "the S3 endpoint does not answer as an S3 server does (HTTP 400)"),
        (ConnectionClosedError(endpoint_url="u"), S3Unavailable, "no answer from the S3 endpoint"),
        (SSOTokenLoadError(error_msg="m"), S3AccessError, "the credentials have expired; log in again, or set "),
        (NoCredentialsError(), S3AccessError, "no credentials; set AWS_ACCESS_KEY_ID and "),
        (ValueError("Invalid\nendpoint: x"), S3AccessError, "Invalid endpoint: x"),
    ],
)
def test_the_message_names_reason_and_remedy(error, kind, message):
    translated = translate(error, "b", "list")
    assert type(translated) is kind
    assert str(translated).startswith(message)
    assert "\n" not in str(translated)


def test_lost_answers_and_failures_of_the_server_are_ambiguous():
    assert is_ambiguous(ConnectionClosedError(endpoint_url="u"))
    assert is_ambiguous(client_error(500, "InternalError"))
    assert not is_ambiguous(client_error(412, "PreconditionFailed"))
    assert not is_ambiguous(NoCredentialsError())


def test_the_errors_end_a_job_and_are_failures_of_storage():
    for error, kind, code in ((S3AccessError("m"), UserError, 2), (S3Unavailable("m"), JobFailed, 1)):
        copy = pickle.loads(pickle.dumps(error))
        assert isinstance(copy, kind)
        assert isinstance(copy, OSError)
        assert (copy.exit_code, str(copy)) == (code, "m")
