"""The HTTP engine's session against a real server that misbehaves on purpose."""

import asyncio
import json
import time

import pytest
from aiohttp import web

from reasonembed.config import Sampling
from reasonembed.llm import openai_client as openai_session
from reasonembed.llm.openai_client import OpenAiSession, chat_body, read_completion

KEY = "sk-secret-of-this-test"


def completion(text, **usage):
    return {"choices": [{"message": {"content": text}}], "usage": usage}


class Server:
    """Answers from a script, one entry a request; the last entry is for all further requests."""

    def __init__(self, *script):
        self.script = list(script)
        self.seen = []

    async def handle(self, request):
        self.seen.append((time.monotonic(), request.headers.get("Authorization"), await request.json()))
        status, body, headers = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if status is None:
            request.transport.close()
            return web.Response()
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(status=status, text=text, headers=headers)

    def ask(self, texts=("hello",), **settings):
        """What ``Ray Data``'s processor does with a batch."""

        async def run():
            app = web.Application()
            app.router.add_post("/v1/chat/completions", self.handle)
            runner = web.AppRunner(app)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port = site._server.sockets[0].getsockname()[1]
            values = {"attempts": 4, "timeout_seconds": 1.0, "requests_per_second": None, "chat_template_kwargs": {}}
            answers = []
            async with OpenAiSession("TEST_LLM_KEY", **{**values, **settings}) as session:
                pending = []
                for text in texts:
                    data = json.dumps({"body": json.dumps({"messages": text})})
                    url = f"http://127.0.0.1:{port}/v1/chat/completions"
                    pending.append(session.post(url, headers={}, data=data))
                for request in pending:
                    async with await request as response:
                        assert response.status == 200
                        answers.append(json.loads((await response.json())["answer"]))
            await runner.cleanup()
            return answers

        return asyncio.run(run())


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(openai_session, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setenv("TEST_LLM_KEY", KEY)
    OpenAiSession._next_slot = 0.0


GOOD = (200, completion("{}", prompt_tokens=7, completion_tokens=2), {})


@pytest.mark.parametrize(
    "trouble",
    [(429, "slow down", {"Retry-After": "0"}), (500, "<html>", {}), (503, "", {}), (None, "", {})],
    ids=["429", "500", "503", "connection lost"],
)
def test_what_passes_is_waited_for(trouble):
    server = Server(trouble, trouble, GOOD)
    [answer] = server.ask()
    assert (answer["text"], answer["input_tokens"], answer["output_tokens"]) == ("{}", 7, 2)
    assert len(server.seen) == 3


def test_the_server_says_how_long_to_wait():
    server = Server((429, "", {"Retry-After": "0.4"}), GOOD)
    server.ask()
    assert server.seen[1][0] - server.seen[0][0] >= 0.4


@pytest.mark.parametrize(
    ("status", "lasting", "sent"), [(400, True, 1), (404, True, 1), (500, False, 4), (429, False, 4)]
)
def test_what_does_not_pass_is_an_answer_with_an_error(status, lasting, sent):
    server = Server((status, json.dumps({"error": {"message": "no such thing"}}), {}))
    [answer] = server.ask()
    assert answer["text"] is None
    assert f"HTTP {status}" in answer["error"]
    assert ("no such thing" in answer["error"]) == lasting
    assert answer["lasting"] == lasting
    assert len(server.seen) == sent


@pytest.mark.parametrize(
    "body", ["", "{}", "[]", "null", '{"choices": []}', "garbage", '{"choices": [{"message": 3}]}']
)
def test_what_is_no_completion_is_an_error(body):
    [answer] = Server((200, body, {})).ask()
    assert "not a chat completion" in answer["error"]


def test_a_message_without_text_is_an_empty_answer_which_no_parser_takes():
    assert read_completion(json.dumps(completion(None))).text == ""


def test_requests_go_out_together_and_answers_keep_their_order():
    async def slow(request):
        body = await request.json()
        await asyncio.sleep(0.3 if body["messages"] == "0" else 0.1)
        return web.json_response(completion(body["messages"]))

    server = Server(GOOD)
    server.handle = slow
    started = time.monotonic()
    answers = server.ask([str(n) for n in range(30)])
    assert [a["text"] for a in answers] == [str(n) for n in range(30)]
    assert time.monotonic() - started < 2


def test_the_rate_is_kept():
    server = Server(GOOD)
    server.ask(["x"] * 6, requests_per_second=20.0)
    sent = sorted(at for at, _, _ in server.seen)
    assert sent[-1] - sent[0] >= 0.23


def test_the_key_goes_to_the_server_and_nowhere_else(caplog, capfd):
    server = Server((500, f"echo {KEY}", {}))
    [answer] = server.ask()
    assert server.seen[0][1] == f"Bearer {KEY}"
    assert KEY not in json.dumps(answer)
    assert KEY not in caplog.text
    out, err = capfd.readouterr()
    assert KEY not in out + err


def test_the_body_says_what_was_configured():
    schema = '{"type": "object"}'
    body = chat_body("m", Sampling(top_k=40, top_p=0.9, max_new_tokens=5), 0.7, schema, 5)
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert (body["temperature"], body["top_p"], body["top_k"]) == (0.7, 0.9, 40)
    assert (body["logprobs"], body["top_logprobs"], body["max_tokens"]) == (True, 5, 5)
    assert not {"top_k", "response_format", "logprobs"} & set(chat_body("m", Sampling(), 0.0, None, 0))
