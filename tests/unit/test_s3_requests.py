"""Conditional puts and the probe, in memory and over HTTP through a proxy that fails requests."""

import socket
import threading
import time

import boto3
import pytest
from fault_proxy import Fault
from moto import mock_aws

from reasonembed import s3_requests
from reasonembed.s3_errors import S3AccessError, S3Unavailable

URI = "s3://bucket/a/record.json"


@pytest.fixture
def memory(monkeypatch):
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        boto3.client("s3").create_bucket(Bucket="bucket")
        yield


@pytest.fixture
def no_pauses(monkeypatch):
    """Retries follow at once, and end after ``TOTAL_ATTEMPTS``."""
    monkeypatch.setattr(s3_requests, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)
    monkeypatch.setattr("botocore.retries.bucket.TokenBucket.acquire", lambda *_, **__: True)


@pytest.fixture
def empty(proxy):
    """The proxy, with no object under ``URI``."""
    boto3.Session().client("s3").delete_object(Bucket="bucket", Key="a/record.json")
    proxy.heal()
    return proxy


def content(key="a/record.json"):
    return boto3.Session().client("s3").get_object(Bucket="bucket", Key=key)["Body"].read()


def puts(proxy):
    return [request.status for request in proxy.requests if request.method == "PUT"]


def test_the_first_of_two_writers_creates_the_object(memory):
    assert s3_requests.put_if_absent(URI, b"first")
    assert not s3_requests.put_if_absent(URI, b"second")
    assert content() == b"first"


def test_the_second_of_two_writers_with_the_same_data_has_not_created_the_object(memory):
    assert s3_requests.put_if_absent(URI, b"same")
    assert not s3_requests.put_if_absent(URI, b"same")


def test_a_probe_leaves_no_object(memory):
    s3_requests.probe_write("s3://bucket/run/.probe")
    assert "Contents" not in boto3.client("s3").list_objects_v2(Bucket="bucket")


def test_the_reason_of_a_failed_probe_is_named(memory):
    with pytest.raises(OSError, match=r"^bucket other does not exist$"):
        s3_requests.probe_write("s3://other/run/.probe")


def test_a_store_that_answers_503_for_two_seconds_loses_no_record(empty):
    empty.fail(Fault(status=503, seconds=2))
    started = time.monotonic()
    assert s3_requests.put_if_absent(URI, b"record")
    assert time.monotonic() - started > 1.5
    assert content() == b"record"


@pytest.mark.parametrize(
    "fault", [Fault(status=503, times=9), Fault(status=500, times=9), Fault(cut="request", times=9)]
)
def test_a_request_is_tried_ten_times(empty, no_pauses, fault):
    empty.fail(fault)
    assert s3_requests.put_if_absent(URI, b"record")
    assert len(puts(empty)) == 10


def test_tries_go_on_after_those_of_one_client(empty, no_pauses, monkeypatch):
    monkeypatch.setattr(s3_requests, "PATIENCE_SECONDS", 30.0)
    empty.fail(Fault(status=503, times=60))
    assert s3_requests.put_if_absent(URI, b"record")
    assert len(puts(empty)) == 61


def test_a_conflict_with_another_writer_is_no_answer(empty):
    empty.fail(Fault(status=409, code="ConditionalRequestConflict", method="PUT", times=3))
    assert s3_requests.put_if_absent(URI, b"record")
    assert puts(empty) == [409, 409, 409, 200]


def test_conflicts_that_do_not_end_are_one_line(empty, monkeypatch):
    monkeypatch.setattr(s3_requests, "CONFLICT_ATTEMPTS", 3)
    empty.fail(Fault(status=409, code="ConditionalRequestConflict", method="PUT"))
    with pytest.raises(S3Unavailable, match=f"^{URI} cannot be created: conflicts with other writers"):
        s3_requests.put_if_absent(URI, b"record")


def test_a_writer_whose_answer_was_lost_knows_that_it_was_first(empty):
    empty.fail(Fault(cut="answer", method="PUT", times=1))
    assert s3_requests.put_if_absent(URI, b"record")
    assert puts(empty) == [0, 412]
    assert content() == b"record"


def test_a_writer_whose_answer_was_lost_knows_that_it_was_second(empty):
    assert s3_requests.put_if_absent(URI, b"same data")
    empty.fail(Fault(cut="answer", method="PUT", times=1))
    assert not s3_requests.put_if_absent(URI, b"same data")


def test_a_writer_that_never_gets_an_answer_reads_the_object_back(empty, no_pauses, monkeypatch):
    empty.fail(Fault(cut="answer", method="PUT"))
    assert s3_requests.put_if_absent(URI, b"record")
    assert len(puts(empty)) == s3_requests.TOTAL_ATTEMPTS


def test_a_store_that_is_gone_is_one_line(empty, no_pauses):
    empty.fail(Fault(status=503))
    with pytest.raises(S3Unavailable, match=rf"^{empty.url} is overloaded or down \(HTTP 503\)$"):
        s3_requests.put_if_absent(URI, b"record")


def test_of_many_writers_under_faults_one_creates_the_object(empty):
    empty.fail(
        Fault(cut="answer", method="PUT", times=2),
        Fault(status=409, code="ConditionalRequestConflict", method="PUT", times=2),
        Fault(cut="request", times=2),
    )
    results = {}

    def write(number):
        """Writes the number of the thread."""
        results[number] = s3_requests.put_if_absent(URI, b"%d" % number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [winner] = [number for number, first in results.items() if first]
    assert content() == b"%d" % winner


def write_profile(path, key):
    path.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = secret\n")


def test_renewed_credentials_are_used_without_a_restart(empty, tmp_path, monkeypatch):
    profile = tmp_path / "credentials"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(profile))
    write_profile(profile, "first")
    assert s3_requests.put_if_absent(URI, b"record")
    write_profile(profile, "second")
    empty.fail(Fault(status=400, code="ExpiredToken", credential="first"))
    assert not s3_requests.put_if_absent(URI, b"again")
    assert puts(empty) == [200, 400, 412]


def test_expired_credentials_are_one_line(empty):
    empty.fail(Fault(status=400, code="ExpiredToken"))
    with pytest.raises(S3AccessError, match=r"^the credentials have expired; log in again"):
        s3_requests.put_if_absent(URI, b"record")
    with pytest.raises(S3AccessError, match=r"^the credentials have expired; log in again"):
        s3_requests.probe_write("s3://bucket/.probe")


def test_one_client_makes_all_requests_of_an_environment(empty):
    s3_requests.put_if_absent(URI, b"1")
    clients = s3_requests._client.cache_info().misses
    s3_requests.put_if_absent(URI, b"2")
    assert s3_requests._client.cache_info().misses == clients


def test_the_probe_repeats_requests_that_are_answered_with_503(proxy):
    proxy.fail(Fault(status=503, seconds=2))
    s3_requests.probe_write("s3://bucket/.probe")
    assert [request.status for request in proxy.requests][-2:] == [200, 204]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault(status=503), r"is overloaded or down \(HTTP 503\)$"),
        (Fault(cut="request"), r"^no answer from http://127"),
        (Fault(status=403, code="AccessDenied", method="PUT"), "^the key is not allowed to write into bucket bucket$"),
        (
            Fault(status=403, code="AccessDenied", method="DELETE"),
            "^the key is not allowed to delete from bucket bucket$",
        ),
        (Fault(status=403, code="InvalidAccessKeyId"), "^the key is refused .*AWS_ACCESS_KEY_ID"),
        (Fault(status=403, code="SignatureDoesNotMatch"), "^the key is refused .*AWS_SECRET_ACCESS_KEY"),
        (Fault(status=404, code="404"), r"does not answer as an S3 server does \(HTTP 404\)$"),
    ],
)
def test_a_probe_that_fails_is_one_line_within_seconds(proxy, fault, message):
    proxy.fail(fault)
    started = time.monotonic()
    with pytest.raises(OSError, match=message) as caught:
        s3_requests.probe_write("s3://bucket/.probe")
    assert time.monotonic() - started < 10
    assert "\n" not in str(caught.value)


def test_an_endpoint_that_never_answers_is_one_line_within_seconds(monkeypatch, proxy):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(S3Unavailable, match=r"^no answer from http://127"):
            s3_requests.probe_write("s3://bucket/.probe")
        assert time.monotonic() - started < 12


def test_an_access_check_names_the_reason(proxy):
    s3_requests.check_access("bucket")
    with pytest.raises(S3AccessError, match=r"^bucket other does not exist$"):
        s3_requests.check_access("other")
