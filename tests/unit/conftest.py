import boto3
import pytest
from fault_proxy import fault_proxy
from s3_server import running_moto


@pytest.fixture(scope="session")
def moto_variables():
    """The ``AWS_*`` variables of a server over HTTP, which this process does not use by itself."""
    with running_moto() as variables:
        yield variables


@pytest.fixture(scope="session")
def shared_proxy(moto_variables):
    with fault_proxy(moto_variables["AWS_ENDPOINT_URL"]) as proxy:
        settings = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
        boto3.Session().client("s3", endpoint_url=proxy.url, **settings).create_bucket(Bucket="bucket")
        yield proxy


@pytest.fixture
def proxy(shared_proxy, moto_variables, monkeypatch):
    """A healthy proxy in front of a server with the bucket ``bucket``; ``AWS_*`` variables point to the proxy."""
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (moto_variables | {"AWS_ENDPOINT_URL": shared_proxy.url}).items():
        monkeypatch.setenv(name, value)
    shared_proxy.heal()
    yield shared_proxy
    shared_proxy.heal()
