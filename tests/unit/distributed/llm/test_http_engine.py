"""The worker of the HTTP engine against a small server of the test's own."""

import asyncio
import json
from functools import partial
from types import SimpleNamespace

import pyarrow as pa
import pytest
import requests
from aiohttp import web
from llm_test_tasks import SCHEMA, RecordingUsage, word_rows

from reasonembed.config import Llm
from reasonembed.distributed.llm import http_engine
from reasonembed.distributed.llm.http_engine import HttpWorker, _row_seed, check_server
from reasonembed.errors import UserError
from reasonembed.llm.openai_client import OpenAiClient
from reasonembed.llm.task_rows import scratch_schema

BODY = {"model": "m", "temperature": 0.5}


def completion(word):
    content = json.dumps({"word": word})
    usage = {"prompt_tokens": 4, "completion_tokens": 2}
    return web.json_response({"choices": [{"message": {"content": content}}], "usage": usage})


def batch(*texts):
    return pa.table({"id": [f"row {n}" for n in range(len(texts))], "text": list(texts)})


def run_worker(handle, *batches, usage=None, number=0, pause=0.0):
    """Sends the batches through one worker, with a pause between their starts, and returns its tables."""

    async def send(worker, rows, seconds):
        await asyncio.sleep(seconds)
        return await worker(rows)

    async def run():
        application = web.Application()
        application.router.add_post("/v1/chat/completions", handle)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        make_client = partial(OpenAiClient, url, "TEST_LLM_KEY", 1, 20.0, None)
        worker = HttpWorker(word_rows(), make_client, BODY, partial(_row_seed, 42, number), usage)
        try:
            return await asyncio.gather(*(send(worker, rows, n * pause) for n, rows in enumerate(batches)))
        finally:
            await worker._client.close()
            await runner.cleanup()

    return asyncio.run(run())


class RecordingHandler:
    """Answers with the text of the prompt in capitals and records the request bodies."""

    def __init__(self):
        self.bodies = []

    async def __call__(self, request):
        body = await request.json()
        self.bodies.append(body)
        return completion(prompt_text(body).upper())


def prompt_text(body):
    return body["messages"][1]["content"].removeprefix("<text>").removesuffix("</text>")


def test_all_rows_of_several_batches_are_under_way_at_once():
    arrivals, all_arrived = 0, asyncio.Event()

    async def handle(request):
        nonlocal arrivals
        arrivals += 1
        if arrivals == 60:
            all_arrived.set()
        await all_arrived.wait()
        return completion(prompt_text(await request.json()))

    texts = [f"text {n}" for n in range(20)]
    tables = run_worker(handle, batch(*texts), batch(*texts), batch(*texts))
    for table in tables:
        assert table.schema == scratch_schema(SCHEMA)
        assert table["reject_reason"].null_count == 20
        assert table["word"].to_pylist() == texts  # in the order of the rows


def test_requests_share_the_body_and_differ_in_messages_and_seeds():
    handler, again, retry = RecordingHandler(), RecordingHandler(), RecordingHandler()
    [table] = run_worker(handler, batch("one", "two", "three"))
    assert table["word"].to_pylist() == ["ONE", "TWO", "THREE"]
    assert all(body.items() >= BODY.items() for body in handler.bodies)
    assert {prompt_text(body) for body in handler.bodies} == {"one", "two", "three"}

    run_worker(again, batch("one", "two", "three"))
    run_worker(retry, batch("one", "two", "three"), number=1)
    seeds, same_seeds, retry_seeds = (
        {prompt_text(body): body["seed"] for body in recorder.bodies} for recorder in (handler, again, retry)
    )
    assert len(set(seeds.values())) == 3
    assert all(0 <= seed < 2**31 for seed in seeds.values())
    assert same_seeds == seeds
    assert not set(retry_seeds.values()) & set(seeds.values())


def test_a_row_without_a_request_is_rejected_and_not_sent():
    handler = RecordingHandler()
    [table] = run_worker(handler, batch("one", "", "three"))
    assert table["word"].to_pylist() == ["ONE", None, "THREE"]
    assert table["reject_reason"].to_pylist() == [None, "no request can be made of the row: no text", None]
    assert table["retriable"].to_pylist() == [False, False, False]
    assert len(handler.bodies) == 2


@pytest.mark.parametrize(
    ("status", "message", "reason", "retriable"),
    [
        (
            400,
            "This model's maximum context length is 64 tokens.",
            "prompt and answer do not fit into llm.max_model_len",
            False,
        ),
        (400, "bad value", "server: HTTP 400: bad value", False),
        (500, "broken", "transport: HTTP 500", True),
    ],
)
def test_an_error_of_the_server_rejects_the_row_alone(status, message, reason, retriable):
    async def handle(request):
        text = prompt_text(await request.json())
        if text == "two":
            return web.json_response({"error": {"message": message}}, status=status)
        return completion(text)

    [table] = run_worker(handle, batch("one", "two"))
    assert table["word"].to_pylist() == ["one", None]
    assert table["reject_reason"].to_pylist() == [None, reason]
    assert table["retriable"].to_pylist() == [False, retriable]


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_after_a_refusal_only_answered_rows_are_written_and_nothing_more_is_sent(status):
    refusals = 0

    async def handle(request):
        nonlocal refusals
        text = prompt_text(await request.json())
        if text != "refused":
            return completion(text)
        refusals += 1
        return web.json_response({"error": "no service"}, status=status)

    usage = RecordingUsage()
    first, second = run_worker(handle, batch("one", "refused", ""), batch("two"), usage=usage, pause=0.5)
    assert first["id"].to_pylist() == ["row 0", "row 2"]
    assert (first["word"].to_pylist(), second.num_rows) == (["one", None], 0)
    assert first.schema == second.schema == scratch_schema(SCHEMA)
    assert refusals == 1
    [message] = usage.outages
    assert f"(HTTP {status}: no service)" in message
    assert usage.counts == [(2, 1, 4, 2)]


def test_a_batch_without_any_response_is_left_for_the_next_run():
    async def handle(request):
        return web.json_response({}, status=503)

    usage = RecordingUsage()
    [table] = run_worker(handle, batch("one", "two"), usage=usage)
    assert table["reject_reason"].to_pylist() == ["transport: HTTP 503"] * 2
    assert usage.outages == []
    [table] = run_worker(handle, batch("one", "two", "three", "four", "five", ""), usage=usage)
    assert table["id"].to_pylist() == ["row 5"]
    [message] = usage.outages
    assert "chat/completions: all 5 requests of a batch have failed (transport: HTTP 503)" in message


def test_failures_are_counted_across_the_batches_of_a_worker():
    async def handle(request):
        return web.json_response({}, status=503)

    batches, usage = [batch("bad", "bad", "bad", "bad") for _ in range(5)], RecordingUsage()
    tables = run_worker(handle, *batches[:4], usage=usage)
    assert [reason for table in tables for reason in table["reject_reason"].to_pylist()] == ["transport: HTTP 503"] * 16
    assert usage.outages == []
    tables = run_worker(handle, *batches, usage=usage)
    assert sum(table.num_rows for table in tables) < 20
    [message] = set(usage.outages)
    assert "20 requests in a row have failed" in message


def test_usage_is_counted_for_every_batch():
    usage = RecordingUsage()
    run_worker(RecordingHandler(), batch("one", ""), batch("three"), usage=usage)
    assert sorted(usage.counts) == [(1, 0, 4, 2), (2, 1, 4, 2)]


@pytest.fixture
def models_requests(monkeypatch):
    """The requests for the list of models, which a server answers with the status in ``status``."""
    calls = SimpleNamespace(status=200, sent=[])

    def get(url, headers, timeout):
        calls.sent.append((url, headers))
        return SimpleNamespace(status_code=calls.status)

    monkeypatch.setattr(http_engine.requests, "get", get)
    monkeypatch.setenv("TEST_LLM_KEY", "sk-secret")
    return calls


CHECKED = Llm(engine="http", model="m", url="http://server/", api_key_env="TEST_LLM_KEY")


@pytest.mark.parametrize("status", [200, 404])
def test_the_server_is_checked_before_any_work(models_requests, status):
    models_requests.status = status
    check_server(CHECKED)
    assert models_requests.sent == [("http://server/v1/models", {"Authorization": "Bearer sk-secret"})]


@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_refused_key_is_an_error_that_does_not_show_it(models_requests, status):
    models_requests.status = status
    with pytest.raises(UserError, match=rf"the key in TEST_LLM_KEY is refused \(HTTP {status}\)") as raised:
        check_server(CHECKED)
    assert "sk-secret" not in str(raised.value)


def test_a_server_that_does_not_answer_is_named(monkeypatch):
    def get(url, headers, timeout):
        raise requests.ConnectionError("sk-secret")

    monkeypatch.setattr(http_engine.requests, "get", get)
    with pytest.raises(UserError, match=r"no answer from http://server/v1/models \(ConnectionError\)") as raised:
        check_server(CHECKED)
    assert "sk-secret" not in str(raised.value)
