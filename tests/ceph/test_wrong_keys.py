"""Wrong keys on Ceph's gateway, which checks keys and signatures as S3 does; moto accepts any."""

import os
import time

import boto3
import pytest
from factories import write_config
from s3_server import running_s3_server

pytestmark = pytest.mark.extended


@pytest.fixture(scope="module")
def ceph(request):
    """Ceph's gateway, whatever server the other tests use."""
    if os.environ.get("S3_SERVER") == "ceph":
        request.getfixturevalue("s3_server")
        yield
    else:
        with running_s3_server("ceph"):
            yield


@pytest.fixture(scope="module")
def config(ceph, tmp_path_factory, tiny_corpus):
    folder = tmp_path_factory.mktemp("ceph")
    # The default session would reuse the keys of another server.
    boto3.Session().client("s3").create_bucket(Bucket="locked")
    return write_config(folder / "config.yaml", "s3://locked/run", tiny_corpus, folder)


def test_the_right_key_is_accepted(config, run_job):
    done = run_job("corpus", config, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("env", [{"AWS_SECRET_ACCESS_KEY": "wrong"}, {"AWS_ACCESS_KEY_ID": "nobody"}])
def test_a_wrong_key_is_one_line_within_seconds(config, run_job, env):
    started = time.time()
    done = run_job("corpus", config, timeout=60, **env)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "the key is refused" in done.stderr
    assert time.time() - started < 15
