"""``llm.engine: http``: asynchronous actors of Ray Data that ask an OpenAI-compatible server."""

import asyncio
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pyarrow as pa
import ray
import requests

from reasonembed.config import Llm
from reasonembed.distributed.data.worker_pool import Transform
from reasonembed.distributed.llm.attempt import LIGHT, TOP_LOGPROBS, Attempt
from reasonembed.distributed.llm.engine_errors import answer_for_error, exceeds_context
from reasonembed.distributed.llm.outage import batch_failure, report_outage
from reasonembed.distributed.llm.usage import report_usage
from reasonembed.errors import UserError
from reasonembed.ids import digest
from reasonembed.llm.circuit_breaker import EngineUnavailable
from reasonembed.llm.openai_client import OpenAiClient, chat_body
from reasonembed.llm.protocol import Answer
from reasonembed.llm.reject_reasons import is_transport
from reasonembed.llm.task_rows import TaskRows


class HttpWorker:
    """Sends the requests of a batch at once and waits for all answers; several batches are under way at a time.

    Args:
        rows: the stage's task.
        make_client: builds the client of the server.
        body: what all requests of the attempt have in common.
        seed: makes the seed of a row's request, of its id.
        usage: handle of the actor that counts rows and tokens.
    """

    def __init__(
        self,
        rows: TaskRows,
        make_client: Callable[[], OpenAiClient],
        body: Mapping[str, Any],
        seed: Callable[[str], int],
        usage: Any,
    ) -> None:
        self._rows, self._body, self._seed, self._usage = rows, body, seed, usage
        self._client = make_client()
        self._breaker = self._client.breaker
        self._has_reported = False

    async def __call__(self, batch: pa.Table) -> pa.Table:
        """Returns the rows of the intermediate files; after an outage of the server only those that were answered."""
        rows = batch.to_pylist()
        answers = await asyncio.gather(*(self._answer(row) for row in rows))
        if problem := batch_failure([answer.error for answer in answers if answer is not None]):
            self._breaker.open(problem)
        if self._breaker.error is not None:
            await self._report(self._breaker.error)
            answers = [None if answer is None or is_transport(answer.error) else answer for answer in answers]
        answered = [(row, answer) for row, answer in zip(rows, answers, strict=True) if answer is not None]
        table = self._rows.table([row for row, _ in answered], [answer for _, answer in answered])
        return report_usage(table, self._usage)

    async def _report(self, error: EngineUnavailable) -> None:
        """Reports the outage once. The driver must know of it before a batch without its rows is complete."""
        if not self._has_reported:
            await report_outage(error, self._usage)
            self._has_reported = True

    async def _answer(self, row: Mapping[str, Any]) -> Answer | None:
        """Returns the answer, or None if the server does not work."""
        if self._breaker.error is not None:
            return None
        try:
            return await self._request(row)
        except EngineUnavailable:
            return None

    async def _request(self, row: Mapping[str, Any]) -> Answer:
        request = self._rows.request(row)
        if isinstance(request, Answer):
            return request
        messages = self._rows.messages(request)
        answer = await self._client.complete(
            {**self._body, "messages": messages, "seed": self._seed(self._rows.row_id(row))}
        )
        return answer_for_error(answer.error) if answer.error and exceeds_context(answer.error) else answer


def http_transform(attempt: Attempt) -> Transform:
    """Returns the transform of an attempt: ``run.actors`` actors with ``llm.concurrent_batches`` batches each."""
    llm = attempt.llm
    body = chat_body(
        attempt.model,
        attempt.sampling,
        temperature=attempt.temperature,
        schema=attempt.reply_schema,
        top_logprobs=TOP_LOGPROBS if attempt.grades else 0,
    )
    if llm.chat_template_kwargs:
        body["chat_template_kwargs"] = dict(llm.chat_template_kwargs)  # vLLM's servers know it
    make_client = partial(
        OpenAiClient,
        f"{_base_url(llm)}/v1/chat/completions",
        api_key_env=llm.api_key_env,
        attempts=llm.http_retries + 1,
        timeout_seconds=llm.timeout_seconds,
        requests_per_second=llm.requests_per_second / attempt.workers if llm.requests_per_second else None,
    )
    compute = ray.data.ActorPoolStrategy(size=attempt.workers, max_concurrent_calls_per_actor=llm.concurrent_batches)
    seed = partial(_row_seed, attempt.run.seed, attempt.number)
    return lambda rows: rows.map_batches(
        HttpWorker,
        fn_constructor_args=(attempt.rows, make_client, body, seed, attempt.usage),
        batch_size=None,
        batch_format="pyarrow",
        compute=compute,
        **LIGHT,
    )


def _row_seed(seed: int, attempt: int, row_id: str) -> int:
    """Returns a seed of its own for each row: with a common seed all rows would share their random draws."""
    return int(digest(str(seed), str(attempt), row_id, length=7), 16)


def check_server(llm: Llm) -> None:
    """Requests the server's list of models, before any work starts.

    Raises:
        UserError: the server does not answer, or refuses the key.
    """
    url = f"{_base_url(llm)}/v1/models"
    key = os.environ.get(llm.api_key_env)
    try:
        response = requests.get(url, headers={"Authorization": f"Bearer {key}"} if key else {}, timeout=10)
    except requests.RequestException as error:
        raise UserError(f"llm.url {llm.url}: no answer from {url} ({type(error).__name__})") from None
    if response.status_code in (401, 402, 403):
        raise UserError(f"llm.url {llm.url}: the key in {llm.api_key_env} is refused (HTTP {response.status_code})")


def _base_url(llm: Llm) -> str:
    return (llm.url or "").rstrip("/")
