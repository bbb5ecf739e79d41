"""Storage over HTTP against a real S3 server process (moto)."""

import json
import os
import subprocess
import sys
import time

import boto3
import pyarrow as pa
import pytest
import requests
from parts import write_config
from test_pipeline import free_port

from reasonembed import artifacts, storage


@pytest.fixture(scope="module")
def bucket():
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    endpoint = f"http://127.0.0.1:{port}"
    variables = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        for _ in range(200):
            try:
                requests.get(endpoint, timeout=1)
                break
            except requests.RequestException:
                time.sleep(0.1)
        boto3.client("s3").create_bucket(Bucket="house")
        yield "s3://house"
    finally:
        server.kill()
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def test_the_same_door(bucket, tmp_path):
    uri = f"{bucket}/a/table.parquet"
    table = pa.table({"x": [1, 2]})
    storage.write_table(table, uri)
    assert storage.exists(uri)
    assert storage.list_files(f"{bucket}/a") == ["table.parquet"]
    assert storage.read_table([uri], table.schema).equals(table)
    with storage.local_copy(f"{bucket}/a") as folder:
        assert storage.describe_file(str(folder), "table.parquet") == storage.describe_file(
            f"{bucket}/a", "table.parquet"
        )
        storage.upload_tree(folder, f"{bucket}/b")
    assert storage.list_files(f"{bucket}/b") == ["table.parquet"]
    storage.delete_tree(f"{bucket}/a")
    assert not storage.exists(uri)


def test_of_two_writers_one_wins(bucket):
    uri = f"{bucket}/once/record.json"
    assert storage.put_if_absent(uri, b"first")
    assert not storage.put_if_absent(uri, b"second")
    assert storage.read_bytes(uri) == b"first"


def test_training_rows_on_s3_equal_those_on_disk(bucket, finished, tmp_path, tiny_corpus, tiny_model, run_job):
    """``run.root=s3://...`` is all it takes; every stage up to the training rows writes the same there."""
    config = write_config(tmp_path / "config.yaml", "unused", tiny_corpus, tiny_model)
    done = run_job("assemble", config, f"run.root={bucket}/run")
    assert done.returncode == 0, done.stderr
    there = artifacts.load(json.loads(done.stdout.splitlines()[-1])["artifact"])
    here = artifacts.load(finished.summary["artifacts"]["assemble"])
    assert there.uri.startswith("s3://")
    assert there.fingerprint == here.fingerprint
    from reasonembed import schemas

    rows = [a.table(schemas.TRAINING).sort_by("query_id") for a in (there, here)]
    assert rows[0].equals(rows[1])


def test_missing_bucket_is_one_line(bucket, tmp_path, tiny_corpus, run_job):
    config = write_config(tmp_path / "config.yaml", "unused", tiny_corpus, tmp_path)
    done = run_job("corpus", config, "run.root=s3://nowhere-at-all/run", timeout=60)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "cannot be written" in done.stderr
