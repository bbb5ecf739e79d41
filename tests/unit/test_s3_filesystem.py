"""Retries of pyarrow's filesystem, through a proxy that fails requests."""

import pickle

import pyarrow.fs as pafs
import pytest
from fault_proxy import Fault

from reasonembed.s3_errors import S3AccessError, S3Unavailable
from reasonembed.s3_filesystem import RETRIES, explain, explained, open_s3


@pytest.mark.parametrize(
    "copy", [lambda filesystem: filesystem, lambda filesystem: pickle.loads(pickle.dumps(filesystem))]
)
def test_a_request_is_tried_nine_times_and_more(proxy, copy):
    proxy.fail(Fault(status=503, times=8))
    assert copy(open_s3()).get_file_info("bucket/absent").type == pafs.FileType.NotFound
    assert [request.status for request in proxy.requests][:9] == [503] * 8 + [404]
    assert RETRIES >= 10


def test_one_filesystem_repeats_any_number_of_requests(proxy):
    filesystem = open_s3()
    for number in range(120):
        proxy.fail(Fault(status=503, path=f"absent-{number}.", times=1))
        assert filesystem.get_file_info(f"bucket/absent-{number}.").type == pafs.FileType.NotFound


def test_a_pickled_filesystem_has_the_endpoint_of_the_process_that_opened_it(proxy, monkeypatch):
    content = pickle.dumps(open_s3())
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert pickle.loads(content).get_file_info("bucket/absent").type == pafs.FileType.NotFound


def failure(operation):
    with pytest.raises(OSError, match="AWS Error") as caught:
        operation()
    return caught.value


def test_the_reason_of_an_answer_without_a_body_is_found(proxy):
    proxy.fail(Fault(status=403, code="InvalidAccessKeyId"))
    error = explain(failure(lambda: open_s3().get_file_info("bucket/a")))
    assert isinstance(error, S3AccessError)
    assert str(error).startswith("the key is refused")


def test_a_key_that_may_not_list_is_not_the_reason_of_another_failure(proxy):
    proxy.fail(Fault(status=400, code="Odd", method="HEAD"), Fault(status=403, code="AccessDenied", method="GET"))
    error = explain(failure(lambda: open_s3().get_file_info("bucket/a")))
    assert isinstance(error, S3Unavailable)
    assert str(error).startswith("S3 failed: When getting information for key 'a' in bucket 'bucket': AWS Error")


def test_other_errors_stay_as_they_are():
    for error in (OSError("disk full"), FileNotFoundError("bucket 'b'"), S3AccessError("AWS Error in bucket 'b'")):
        assert explain(error) is error


def test_a_function_raises_the_explained_error(proxy):
    @explained
    def look_up(path):
        return open_s3().get_file_info(path)

    assert look_up("bucket/absent").type == pafs.FileType.NotFound
    proxy.fail(Fault(status=400, code="ExpiredToken"))
    with pytest.raises(S3AccessError, match="the credentials have expired"):
        look_up("bucket/absent")
