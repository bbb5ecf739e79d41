"""An OpenAI-compatible server behind Ray Data's HTTP processor.

Ray's processor hands over one request after the other and would wait for each answer before it sends the next; it also
gives up the whole job over one request that stays unanswered. This session, which it is given in place of its own,
sends a request as soon as it gets it, keeps to a rate, waits and sends again after 429, 5xx or a lost connection, and
turns whatever comes of it into an answer: a row that fails is one reject.
"""

import asyncio
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import stamina
import stamina.instrumentation

from reasonembed.config import Sampling
from reasonembed.llm.expected_grade import expected_score
from reasonembed.llm.protocol import Answer

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 60.0
TRANSIENT = {408, 409, 425, 429}
ERROR_CHARS = 200


def chat_body(model: str, sampling: Sampling, temperature: float, schema: str | None, likeliest: int) -> dict[str, Any]:
    """The body of ``/v1/chat/completions``, but for the messages and the seed."""
    body: dict[str, Any] = {
        "model": model,
        "temperature": temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_new_tokens,
    }
    if sampling.top_k:
        body["top_k"] = sampling.top_k
    if schema:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": json.loads(schema)},
        }
    if likeliest:
        body |= {"logprobs": True, "top_logprobs": likeliest}
    return body


class OpenAiSession:
    """Looks enough like ``aiohttp.ClientSession`` for Ray's processor.

    Args:
        api_key_env: environment variable of this process that holds the key.
        attempts: times that a request is sent at most.
        timeout_seconds: of one sending.
        requests_per_second: of this process; no limit when None.
        chat_template_kwargs: for servers that take them (vLLM does).
    """

    _next_slot = 0.0  # of the whole process: an actor works on several batches at a time

    def __init__(
        self,
        api_key_env: str,
        attempts: int,
        timeout_seconds: float,
        requests_per_second: float | None,
        chat_template_kwargs: Mapping[str, Any],
    ) -> None:
        self._key = os.environ.get(api_key_env)
        self._attempts = attempts
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._pause = 1 / requests_per_second if requests_per_second else 0.0
        self._template = {"chat_template_kwargs": dict(chat_template_kwargs)} if chat_template_kwargs else {}
        self._session: aiohttp.ClientSession | None = None
        stamina.instrumentation.set_on_retry_hooks([])  # the hooks log arguments

    async def __aenter__(self) -> "OpenAiSession":
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(headers=headers, timeout=self._timeout, connector=connector)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    def post(self, url: str, headers: Mapping[str, str], data: str) -> "asyncio.Task[Reply]":
        """Start to send at once; ``data`` holds the request's body as text under ``body``."""
        body = json.loads(json.loads(data)["body"]) | self._template
        return asyncio.ensure_future(self._answer(url, body))

    async def _answer(self, url: str, body: Mapping[str, Any]) -> "Reply":
        try:
            async for attempt in stamina.retry_context(
                on=_wait_before_retry,
                attempts=self._attempts,
                timeout=None,
                wait_initial=FIRST_WAIT_SECONDS,
                wait_max=LONGEST_WAIT_SECONDS,
            ):
                with attempt:
                    return Reply(await self._send(url, body))
        except _Refused as error:
            return Reply(Answer(error=str(error), lasting=not error.transient))
        except (TimeoutError, aiohttp.ClientError) as error:
            return Reply(Answer(error=f"server: {type(error).__name__}"))
        raise AssertionError("the loop above returns or raises")

    async def _send(self, url: str, body: Mapping[str, Any]) -> Answer:
        await self._wait_for_slot()
        assert self._session is not None
        async with self._session.post(url, json=body) as response:
            text = await response.text(errors="replace")
            if response.status != 200:
                raise _Refused(response.status, text, response.headers.get("Retry-After"))
        return read_completion(text)

    async def _wait_for_slot(self) -> None:
        if self._pause:
            now = time.monotonic()
            slot = max(now, OpenAiSession._next_slot)
            OpenAiSession._next_slot = slot + self._pause
            await asyncio.sleep(slot - now)


class Reply:
    """What Ray's processor takes for a response: always a success, whose content says how it went."""

    status = 200

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    async def __aenter__(self) -> "Reply":
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def json(self) -> dict[str, str]:
        return {"answer": json.dumps(asdict(self._answer))}


class _Refused(Exception):
    def __init__(self, status: int, text: str, retry_after: str | None) -> None:
        self.transient = status in TRANSIENT or status >= 500
        self.retry_after = retry_after
        detail = "" if self.transient else f": {_message(text)[:ERROR_CHARS]}"
        super().__init__(f"server: HTTP {status}{detail}")


def _wait_before_retry(error: Exception) -> bool | float:
    """Whether to send again; a number is the seconds that the server asks to wait."""
    if isinstance(error, _Refused):
        if error.transient and error.retry_after:
            return min(_seconds(error.retry_after), LONGEST_WAIT_SECONDS)
        return error.transient
    return isinstance(error, aiohttp.ClientError | asyncio.TimeoutError)


def _seconds(retry_after: str) -> float:
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return FIRST_WAIT_SECONDS


def _message(text: str) -> str:
    try:
        content = json.loads(text)
        error = content.get("error", content)
        return str(error.get("message", error)) if isinstance(error, dict) else str(error)
    except (ValueError, AttributeError):
        return " ".join(text.split())


def read_completion(text: str) -> Answer:
    """A response of ``/v1/chat/completions`` as an answer."""
    try:
        content = json.loads(text)
        choice = content["choices"][0]
        message = choice["message"]["content"]
        usage = content.get("usage") or {}
        positions = (choice.get("logprobs") or {}).get("content") or []
        tokens = [
            (str(p["token"]), {str(t["token"]): float(t["logprob"]) for t in p.get("top_logprobs", [])})
            for p in positions
        ]
        return Answer(
            text="" if message is None else str(message),
            score=expected_score(tokens) if tokens else None,
            input_tokens=int(usage.get("prompt_tokens") or 0),
            output_tokens=int(usage.get("completion_tokens") or 0),
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        return Answer(error=f"server: not a chat completion ({type(error).__name__})")
