"""What only a server that checks keys can show."""

import time

import boto3
import pytest
from parts import write_config


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "the key is refused"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "the key is refused"),
    ],
)
def test_a_wrong_key_is_one_line_within_seconds(s3_server, tmp_path, tiny_corpus, run_job, env, says):
    boto3.client("s3").create_bucket(Bucket="locked")
    config = write_config(tmp_path / "config.yaml", "unused", tiny_corpus, tmp_path)
    started = time.time()
    done = run_job("corpus", config, "run.root=s3://locked/run", timeout=60, **env)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert says in done.stderr
    assert time.time() - started < 15
