"""Storage over HTTP on a real S3 server process: moto, or (``make test-s3``) Ceph's gateway.

Ceph checks keys and headers and moto does not; the tests of wrong keys are in ``tests/ceph``.
"""

import json
import os
import socket
import time

import boto3
import pyarrow as pa
import pytest
from factories import write_config
from processes import interrupt, start_job, wait_for

from reasonembed import artifacts, storage
from reasonembed.corpora import read_corpus, read_questions
from reasonembed.embedder.model_source import model_fingerprint
from reasonembed.errors import UserError
from reasonembed.remixer.interchange import read_published


@pytest.fixture(scope="module")
def bucket(s3_server):
    boto3.client("s3").create_bucket(Bucket="storage")
    return "s3://storage"


def list_keys(bucket):
    name = bucket.removeprefix("s3://")
    return ["/" + entry["Key"] for entry in boto3.client("s3").list_objects_v2(Bucket=name).get("Contents", [])]


def compare_runs(remote, local):
    """Asserts that an artifact on S3, and all that it was made from, equals the local one byte for byte.

    Returns:
        Names of the compared stages.
    """
    assert remote.uri.startswith("s3://")
    assert remote.fingerprint == local.fingerprint
    assert remote.files == local.files
    assert len(remote.files) > 0
    stages = {remote.stage}
    for name, entry in remote.record["inputs"].items():
        if isinstance(entry, dict):
            stages |= compare_runs(artifacts.load(entry["uri"]), artifacts.load(local.record["inputs"][name]["uri"]))
    return stages


def test_tables_folders_and_copies(bucket):
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
    storage.write_bytes(f"{bucket}/a/large", b"excluded from the copy")
    with storage.local_copy(f"{bucket}/a", lambda name: name != "large") as folder:
        assert [path.name for path in folder.iterdir()] == ["table.parquet"]
    storage.delete_tree(f"{bucket}/a")
    assert not storage.exists(uri)


def test_the_first_of_two_writers_wins(bucket):
    uri = f"{bucket}/once/record.json"
    assert storage.put_if_absent(uri, b"first")
    assert not storage.put_if_absent(uri, b"second")
    assert storage.read_bytes(uri) == b"first"


def test_a_run_on_s3_equals_the_run_on_disk(bucket, pipeline_run, run_job):
    done = run_job("mine", pipeline_run.config, f"run.root={bucket}/mine")
    assert done.returncode == 0, done.stderr
    remote = artifacts.load(json.loads(done.stdout.splitlines()[-1])["artifact"])
    local = artifacts.load(pipeline_run.summary["artifacts"]["mine"])
    assert compare_runs(remote, local) == {"mine", "generate", "encode", "corpus", "questions"}


@pytest.mark.extended
def test_an_interrupted_run_on_s3_equals_the_run_on_disk(bucket, pipeline_run, run_job):
    """Neither another number of actors nor Ctrl-C within a stage changes a byte."""
    command = ("assemble", pipeline_run.config, f"run.root={bucket}/run", "run.actors=2")
    process = start_job(*command)
    wait_for(lambda: any("/.work/checkpoint-0/" in key and "/annotate/" in key for key in list_keys(bucket)), process)
    interrupt(process)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 130, log
    assert "the same command continues from here" in log
    assert "Traceback" not in log
    done = run_job(*command)
    assert done.returncode == 0, done.stderr
    remote = artifacts.load(json.loads(done.stdout.splitlines()[-1])["artifact"])
    local = artifacts.load(pipeline_run.summary["artifacts"]["assemble"])
    stages = {"assemble", "annotate", "mine", "rewrite", "generate", "encode", "corpus", "questions"}
    assert compare_runs(remote, local) == stages

    exported = run_job("export", pipeline_run.config, f"run.root={bucket}/run", f"export.to={bucket}/export")
    assert exported.returncode == 0, exported.stderr
    assert read_published(f"{bucket}/export").num_rows == remote.figures["rows"]


def test_a_benchmark_on_s3_equals_the_one_on_disk(bucket, tiny_corpus):
    storage.upload_tree(tiny_corpus, f"{bucket}/benchmarks/bright_tiny")
    local, remote = f"bright:{tiny_corpus}", f"bright:{bucket}/benchmarks/bright_tiny"
    corpus = read_corpus(local)
    assert read_corpus(remote).equals(corpus)
    assert read_questions(remote, "test", corpus).equals(read_questions(local, "test", corpus))
    [row, *_] = read_questions(f"{remote}/physics", "test", corpus).to_pylist()
    assert row["task"] == "physics"
    with pytest.raises(UserError, match=f"{bucket}/nowhere: no such folder"):
        read_corpus(f"bright:{bucket}/nowhere")
    storage.write_bytes(f"{bucket}/benchmarks/broken/documents.jsonl", b"no json")
    with pytest.raises(UserError, match=f"{bucket}/benchmarks/broken/documents.jsonl, line 1: not JSON"):
        read_corpus(f"bright:{bucket}/benchmarks/broken")


def test_a_model_on_s3_is_identified_by_its_content(bucket, tiny_model):
    storage.upload_tree(tiny_model, f"{bucket}/models/tiny")
    assert model_fingerprint(f"{bucket}/models/tiny") == model_fingerprint(str(tiny_model))
    with pytest.raises(UserError, match="contains no model files"):
        model_fingerprint(f"{bucket}/models/none")


def test_a_missing_bucket_and_a_wrong_endpoint_are_one_line_within_seconds(bucket, tmp_path, tiny_corpus, run_job):
    config = write_config(tmp_path / "config.yaml", "unused", tiny_corpus, tmp_path)
    server = socket.create_server(("127.0.0.1", 0))  # accepts connections and never answers
    silent = f"http://127.0.0.1:{server.getsockname()[1]}"
    for root, env, message in (
        ("s3://nowhere-at-all/run", {}, "bucket nowhere-at-all does not exist"),
        ("s3://storage/run", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "no answer from http://127.0.0.1:9"),
        ("s3://storage/run", {"AWS_ENDPOINT_URL": silent}, f"no answer from {silent}"),
        ("s3://storage/run", {"AWS_ENDPOINT_URL": "127.0.0.1"}, "Invalid endpoint: 127.0.0.1"),
    ):
        started = time.time()
        done = run_job("corpus", config, f"run.root={root}", timeout=60, **env)
        assert done.returncode == 2, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert message in done.stderr
        assert time.time() - started < 15
    server.close()


def test_a_run_without_credentials_is_one_line(bucket, tmp_path, tiny_corpus, run_job, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    config = write_config(tmp_path / "config.yaml", "unused", tiny_corpus, tmp_path)
    missing = str(tmp_path / "none")
    done = run_job(
        "corpus",
        config,
        "run.root=s3://storage/run",
        timeout=60,
        AWS_SHARED_CREDENTIALS_FILE=missing,
        AWS_CONFIG_FILE=missing,
        AWS_EC2_METADATA_DISABLED="true",
    )
    assert done.returncode == 2, done.stderr
    assert "no credentials" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert os.environ.get("AWS_ACCESS_KEY_ID") is None
