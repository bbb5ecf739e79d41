import boto3
import pytest
from moto import mock_aws

from reasonembed import s3_requests


@pytest.fixture(autouse=True)
def bucket(monkeypatch):
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        boto3.client("s3").create_bucket(Bucket="bucket")
        yield


def content(key):
    return boto3.client("s3").get_object(Bucket="bucket", Key=key)["Body"].read()


def test_the_first_of_two_writers_creates_the_object():
    assert s3_requests.put_if_absent("s3://bucket/a/record.json", b"first")
    assert not s3_requests.put_if_absent("s3://bucket/a/record.json", b"second")
    assert content("a/record.json") == b"first"


def test_a_probe_leaves_no_object():
    s3_requests.probe_write("s3://bucket/run/.probe")
    assert "Contents" not in boto3.client("s3").list_objects_v2(Bucket="bucket")


def test_the_reason_of_a_failed_probe_is_named():
    with pytest.raises(OSError, match=r"^bucket other does not exist$"):
        s3_requests.probe_write("s3://other/run/.probe")


def test_the_endpoint_of_s3_takes_precedence(monkeypatch):
    assert s3_requests.endpoint_url() is None
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://all")
    assert s3_requests.endpoint_url() == "http://all"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3")
    assert s3_requests.endpoint_url() == "http://s3"
