"""Asynchronous client of an OpenAI-compatible chat server: rate limit, retries, and errors as answers.

A request is sent again after 408, 409, 425, 429, 5xx or a lost connection, with growing waits or after the time that
the server asks for. A request that fails in spite of that is an ``Answer`` with an error: it costs one row, which is
repeated later. A refused key or an unknown model, and many failures in a row, end the job (``EngineUnavailable``).
"""

import asyncio
import json
import os
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import stamina
import stamina.instrumentation

from reasonembed.config import Sampling
from reasonembed.llm.circuit_breaker import CircuitBreaker
from reasonembed.llm.expected_grade import expected_score
from reasonembed.llm.protocol import Answer
from reasonembed.llm.reject_reasons import SERVER, TRANSPORT

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 60.0
TRANSIENT = {408, 409, 425, 429}
REFUSALS = {
    401: "the server refuses the key in {key}",
    402: "the server demands payment for the key in {key}",
    403: "the key in {key} may not use the model {model}",
    404: "the server has no such address or no model {model}",
}
"""Statuses that all requests would get, and what they mean."""
ERROR_CHARS = 200


def chat_body(
    model: str, sampling: Sampling, temperature: float, schema: str | None, top_logprobs: int
) -> dict[str, Any]:
    """Returns the body of ``/v1/chat/completions`` without messages and seed.

    Args:
        model: its name at the server.
        sampling: of the stage.
        temperature: of this attempt.
        schema: JSON schema of the answer; None for unconstrained decoding.
        top_logprobs: alternatives per token whose log-probabilities are requested; 0 for none.
    """
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
    if top_logprobs:
        body |= {"logprobs": True, "top_logprobs": top_logprobs}
    return body


class OpenAiClient:
    """One connection pool to a server, for use within one event loop.

    Args:
        url: of ``/v1/chat/completions``.
        api_key_env: environment variable of this process that holds the key.
        attempts: how often a request is sent at most.
        timeout_seconds: of one attempt.
        requests_per_second: limit of this client; None for no limit.
    """

    def __init__(
        self, url: str, api_key_env: str, attempts: int, timeout_seconds: float, requests_per_second: float | None
    ) -> None:
        self._url = url
        self._api_key_env = api_key_env
        self._key = os.environ.get(api_key_env)
        self._attempts = attempts
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._interval = 1 / requests_per_second if requests_per_second else 0.0
        self._next_slot = 0.0
        self._session: aiohttp.ClientSession | None = None
        self.breaker = CircuitBreaker(f"language model at {url}")
        stamina.instrumentation.set_on_retry_hooks([])  # the hooks would log the arguments, prompts and key included

    async def complete(self, body: Mapping[str, Any]) -> Answer:
        """Sends a chat request until it succeeds, fails for good, or has been tried ``attempts`` times.

        Raises:
            EngineUnavailable: the server does not work as a whole, by this request or by earlier ones.
        """
        try:
            answer = await self._send_with_retries(body)
        except _ErrorStatus as error:
            if error.status in REFUSALS:
                meaning = REFUSALS[error.status].format(key=self._api_key_env, model=body.get("model"))
                raise self.breaker.open(f"{meaning} ({error})") from None
            if not error.transient:
                self.breaker.record_response()
                return Answer(error=f"{SERVER}{error}", permanent=True)
            answer = Answer(error=f"{TRANSPORT}{error}")
        except (TimeoutError, aiohttp.ClientError) as error:
            answer = Answer(error=f"{TRANSPORT}{type(error).__name__}")
        if answer.error:
            self.breaker.record_failure(answer.error)
        else:
            self.breaker.record_response()
        return answer

    async def close(self) -> None:
        """Closes the connections."""
        if self._session is not None:
            await self._session.close()

    async def _send_with_retries(self, body: Mapping[str, Any]) -> Answer:
        async for attempt in stamina.retry_context(
            on=_wait_before_retry,
            attempts=self._attempts,
            timeout=None,
            wait_initial=FIRST_WAIT_SECONDS,
            wait_max=LONGEST_WAIT_SECONDS,
        ):
            with attempt:
                return await self._send(body)
        raise AssertionError("the loop above returns or raises")

    async def _send(self, body: Mapping[str, Any]) -> Answer:
        self.breaker.check()
        await self._wait_for_slot()
        self.breaker.check()
        async with self._open_session().post(self._url, json=body) as response:
            text = await response.text(errors="replace")
            if response.status != 200:
                raise _ErrorStatus(response.status, self._error_message(text), response.headers.get("Retry-After"))
        return read_completion(text)

    def _error_message(self, text: str) -> str:
        """Returns the message of an error response in one line; a server may repeat the key in it."""
        message = " ".join(_message(text).split())
        return (message.replace(self._key, "***") if self._key else message)[:ERROR_CHARS]

    def _open_session(self) -> aiohttp.ClientSession:
        # Not in the constructor, which runs outside the event loop.
        if self._session is None:
            headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
            connector = aiohttp.TCPConnector(limit=0)
            self._session = aiohttp.ClientSession(headers=headers, timeout=self._timeout, connector=connector)
        return self._session

    async def _wait_for_slot(self) -> None:
        if self._interval:
            now = time.monotonic()
            slot = max(now, self._next_slot)
            self._next_slot = slot + self._interval
            await asyncio.sleep(slot - now)


class _ErrorStatus(Exception):
    def __init__(self, status: int, message: str, retry_after: str | None) -> None:
        self.status = status
        self.transient = status in TRANSIENT or status >= 500
        self.retry_after = retry_after
        # Without the message, transient errors of one status are one reason, which can be counted.
        super().__init__(f"HTTP {status}" if self.transient or not message else f"HTTP {status}: {message}")


def _wait_before_retry(error: Exception) -> bool | float:
    """Returns whether to send again, or the seconds to wait before, where the server names them."""
    if isinstance(error, _ErrorStatus):
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
        return text


def read_completion(text: str) -> Answer:
    """Returns the answer in a response of ``/v1/chat/completions``."""
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
        return Answer(error=f"{SERVER}not a chat completion ({type(error).__name__})")
