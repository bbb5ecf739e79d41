"""The client of an OpenAI-compatible server against a real server that misbehaves on purpose."""

import asyncio
import json
import time
from dataclasses import asdict

import pytest
from aiohttp import web

from reasonembed.config import Sampling
from reasonembed.llm import openai_client
from reasonembed.llm.circuit_breaker import EngineUnavailable
from reasonembed.llm.openai_client import OpenAiClient, chat_body, read_completion

KEY = "sk-secret-of-this-test"


def completion(text, **usage):
    return {"choices": [{"message": {"content": text}}], "usage": usage}


class ScriptedServer:
    """Answers from a script, one (status, body, headers) per request; the last entry is for all further requests.

    With the status None it closes the connection.
    """

    def __init__(self, *script):
        self.script = list(script)
        self.times, self.keys, self.bodies = [], [], []

    async def handle(self, request):
        self.times.append(time.monotonic())
        self.keys.append(request.headers.get("Authorization"))
        self.bodies.append(await request.json())
        status, body, headers = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if status is None:
            request.transport.close()
            return web.Response()
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(status=status, text=text, headers=headers)

    def complete(self, texts=("hello",), return_exceptions=False, **settings):
        """Sends one request per text through one client, all at once, and returns the answers in order."""

        async def run():
            application = web.Application()
            application.router.add_post("/v1/chat/completions", self.handle)
            runner = web.AppRunner(application)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port = site._server.sockets[0].getsockname()[1]
            client = OpenAiClient(
                f"http://127.0.0.1:{port}/v1/chat/completions",
                "TEST_LLM_KEY",
                **{"attempts": 4, "timeout_seconds": 5.0, "requests_per_second": None, **settings},
            )
            send = (client.complete({"model": "the-model", "messages": text}) for text in texts)
            try:
                return await asyncio.gather(*send, return_exceptions=return_exceptions)
            finally:
                await client.close()
                await runner.cleanup()

        return asyncio.run(run())


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.setattr(openai_client, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setenv("TEST_LLM_KEY", KEY)


VALID = (200, completion("{}", prompt_tokens=7, completion_tokens=2), {})


@pytest.mark.parametrize(
    "failure",
    [
        (429, "slow down", {"Retry-After": "0"}),
        (503, "", {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
        (503, "", {"Retry-After": "soon"}),
        (500, "<html>", {}),
        (503, "", {}),
        (None, "", {}),
    ],
    ids=["429", "503 until a date", "503 until soon", "500", "503", "connection lost"],
)
def test_a_request_is_repeated_after_a_transient_failure(failure):
    server = ScriptedServer(failure, failure, VALID)
    [answer] = server.complete()
    assert (answer.text, answer.input_tokens, answer.output_tokens, answer.error) == ("{}", 7, 2, None)
    assert server.bodies == [{"model": "the-model", "messages": "hello"}] * 3


def test_the_server_decides_how_long_to_wait():
    server = ScriptedServer((429, "", {"Retry-After": "0.4"}), VALID)
    server.complete()
    assert server.times[1] - server.times[0] >= 0.4


@pytest.mark.parametrize(
    ("status", "error", "permanent", "sent"),
    [
        (400, "server: HTTP 400: no such thing", True, 1),
        (422, "server: HTTP 422: no such thing", True, 1),
        (500, "transport: HTTP 500", False, 4),
        (429, "transport: HTTP 429", False, 4),
    ],
)
def test_a_request_that_keeps_failing_is_an_answer_with_an_error(status, error, permanent, sent):
    server = ScriptedServer((status, json.dumps({"error": {"message": "no such\nthing"}}), {}))
    [answer] = server.complete()
    assert (answer.text, answer.error, answer.permanent) == (None, error, permanent)
    assert len(server.times) == sent


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        (401, "the server refuses the key in TEST_LLM_KEY"),
        (402, "the server demands payment for the key in TEST_LLM_KEY"),
        (403, "the key in TEST_LLM_KEY may not use the model the-model"),
        (404, "the server has no such address or no model the-model"),
    ],
)
def test_a_refusal_of_all_requests_ends_the_job_at_once(status, meaning):
    server = ScriptedServer((status, json.dumps({"error": {"message": f"bad key\n{KEY}"}}), {}))
    with pytest.raises(EngineUnavailable) as raised:
        server.complete()
    assert len(server.times) == 1
    message = str(raised.value)
    assert message.startswith("language model at http://127.0.0.1:")
    assert f"{meaning} (HTTP {status}: bad key ***); " in message
    assert KEY not in message


def test_after_a_refusal_nothing_more_is_sent():
    server = ScriptedServer((401, "", {}))
    errors = server.complete(["x"] * 50, return_exceptions=True, requests_per_second=50.0)
    assert all(isinstance(error, EngineUnavailable) for error in errors)
    assert len(server.times) < 25


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        ((503, "", {}), "transport: HTTP 503"),
        ((None, "", {}), "transport: ServerDisconnectedError"),
        ((200, "<html>not found</html>", {}), "server: not a chat completion (JSONDecodeError)"),
    ],
)
def test_many_failures_in_a_row_end_the_job(failure, reason):
    server = ScriptedServer(failure)
    answers = server.complete(["x"] * 25, return_exceptions=True, attempts=2)
    errors = [answer for answer in answers if isinstance(answer, EngineUnavailable)]
    assert len(errors) == 25 - 19
    assert all(f"20 requests in a row have failed, the last one with {reason}; " in str(error) for error in errors)
    assert {answer.error for answer in answers if not isinstance(answer, Exception)} == {reason}


def test_a_server_that_is_gone_ends_the_job():
    async def run():
        client = OpenAiClient("http://127.0.0.1:9/v1/chat/completions", "TEST_LLM_KEY", 2, 5.0, None)
        try:
            await asyncio.gather(*(client.complete({"messages": "x"}) for _ in range(20)))
        finally:
            await client.close()

    with pytest.raises(EngineUnavailable, match="with transport: ClientConnectorError"):
        asyncio.run(run())


def test_failures_between_answers_end_nothing():
    server = ScriptedServer(*[(400, "", {}), VALID, (500, "", {})] * 40)
    answers = server.complete(["x"] * 60, attempts=1)
    assert {answer.error for answer in answers} == {None, "server: HTTP 400", "transport: HTTP 500"}


def test_a_connection_that_is_lost_every_time_is_an_answer_with_an_error():
    server = ScriptedServer((None, "", {}))
    [answer] = server.complete(attempts=2)
    assert answer.error == "transport: ServerDisconnectedError"
    assert not answer.permanent
    assert len(server.times) == 2


def test_a_server_that_does_not_answer_in_time_is_an_answer_with_an_error():
    calls = []

    async def answer_too_late(request):
        calls.append(request)
        await asyncio.sleep(0.5)
        return web.json_response(completion("{}"))

    server = ScriptedServer(VALID)
    server.handle = answer_too_late
    [answer] = server.complete(attempts=2, timeout_seconds=0.1)
    assert (answer.text, answer.error, answer.permanent) == (None, "transport: TimeoutError", False)
    assert len(calls) == 2


@pytest.mark.parametrize(
    "body", ["", "{}", "[]", "null", '{"choices": []}', "garbage", '{"choices": [{"message": 3}]}']
)
def test_a_response_that_is_no_completion_is_an_error(body):
    [answer] = ScriptedServer((200, body, {})).complete()
    assert answer.text is None
    assert "not a chat completion" in answer.error


def test_a_message_without_text_is_an_empty_answer():
    assert read_completion(json.dumps(completion(None))).text == ""


def test_probabilities_of_the_grade_become_a_score():
    alternatives = [{"token": "4", "logprob": 0.0}]
    positions = [{"token": '{"grade":'}, {"token": "4", "top_logprobs": alternatives}, {"token": "}"}]
    choice = {"message": {"content": '{"grade":4}'}, "logprobs": {"content": positions}}
    assert read_completion(json.dumps({"choices": [choice]})).score == 0.75
    assert read_completion(json.dumps(completion('{"grade":4}'))).score is None


def test_any_number_of_requests_is_under_way_at_once():
    count = 150  # more than aiohttp's own limit of connections
    arrivals, all_arrived = 0, asyncio.Event()

    async def handle(request):
        nonlocal arrivals
        arrivals += 1
        if arrivals == count:
            all_arrived.set()
        await all_arrived.wait()
        body = await request.json()
        return web.json_response(completion(body["messages"]))

    server = ScriptedServer(VALID)
    server.handle = handle
    answers = server.complete([str(n) for n in range(count)], timeout_seconds=20.0, attempts=1)
    assert [answer.text for answer in answers] == [str(n) for n in range(count)]


def test_the_rate_is_limited():
    server = ScriptedServer(VALID)
    server.complete(["x"] * 6, requests_per_second=20.0)
    assert max(server.times) - min(server.times) >= 0.23


def test_the_key_is_sent_to_the_server_and_appears_nowhere_else(caplog, capfd):
    server = ScriptedServer((500, f"echo {KEY}", {}))
    [answer] = server.complete()
    assert server.keys == [f"Bearer {KEY}"] * 4
    assert KEY not in json.dumps(asdict(answer))
    assert KEY not in caplog.text
    out, err = capfd.readouterr()
    assert KEY not in out + err


def test_without_a_key_none_is_sent(monkeypatch):
    monkeypatch.delenv("TEST_LLM_KEY")
    server = ScriptedServer(VALID)
    server.complete()
    assert server.keys == [None]


def test_the_body_follows_the_configuration():
    schema = '{"type": "object"}'
    body = chat_body("m", Sampling(top_k=40, top_p=0.9, max_new_tokens=5), 0.7, schema, 5)
    assert body["model"] == "m"
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert (body["temperature"], body["top_p"], body["top_k"]) == (0.7, 0.9, 40)
    assert (body["logprobs"], body["top_logprobs"], body["max_tokens"]) == (True, 5, 5)
    assert not {"top_k", "response_format", "logprobs"} & set(chat_body("m", Sampling(), 0.0, None, 0))
