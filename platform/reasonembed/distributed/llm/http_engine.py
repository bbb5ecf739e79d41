"""``llm.engine: http``: an OpenAI-compatible server behind Ray Data's HTTP processor."""

import json
import os
from collections.abc import Mapping
from functools import partial
from typing import Any

import requests

from reasonembed.config import Llm
from reasonembed.distributed.data.row_stage import Transform
from reasonembed.distributed.llm.attempt import LIGHT, LIKELIEST, Asking
from reasonembed.distributed.llm.ray_llm_adapter import ERROR, engine_error, finished, is_too_long, prepared, processed
from reasonembed.errors import UserError
from reasonembed.ids import digest
from reasonembed.llm.openai_client import OpenAiSession, chat_body
from reasonembed.llm.protocol import Answer


def http_transform(asking: Asking) -> Transform:
    from ray.data.llm import HttpRequestProcessorConfig, build_processor

    llm = asking.llm
    body = chat_body(
        asking.model,
        asking.sampling,
        temperature=asking.temperature,
        schema=asking.schema if llm.constrained else None,
        likeliest=LIKELIEST if asking.grades else 0,
    )

    def prepare(prompt: list[dict[str, str]], row_id: str) -> dict[str, Any]:
        # One seed for all rows would draw the same for all of them.
        seed = int(digest(str(asking.run.seed), str(asking.attempt), row_id, length=7), 16)
        whole = body | {"messages": prompt, "seed": seed}
        # As text: a table would change what is nested in it.
        return {"payload": {"body": json.dumps(whole, ensure_ascii=False)}}

    session = partial(
        OpenAiSession,
        api_key_env=llm.api_key_env,
        attempts=llm.http_retries + 1,
        timeout_seconds=llm.timeout_seconds,
        requests_per_second=llm.requests_per_second / asking.run.actors if llm.requests_per_second else None,
        chat_template_kwargs=dict(llm.chat_template_kwargs),
    )
    config = HttpRequestProcessorConfig(
        url=f"{(llm.url or '').rstrip('/')}/v1/chat/completions",
        batch_size=asking.batch_rows,
        session_factory=session,
        http_request_stage={"concurrency": (asking.run.actors, asking.run.actors), **LIGHT},
    )
    processor = build_processor(
        config,
        preprocess=partial(prepared, asking.rows, prepare),
        preprocess_map_kwargs=LIGHT,
        postprocess_map_kwargs=asking.after,
    )
    return processed(asking, processor, partial(finished, asking.rows, _http_answer))


def _http_answer(data: Mapping[str, Any]) -> Answer:
    if error := data.get(ERROR):
        return engine_error(str(error))
    answer = Answer(**json.loads(data["http_response"]["answer"]))
    return engine_error(answer.error) if answer.error and is_too_long(answer.error) else answer


def check_server(llm: Llm) -> None:
    """Ask the server for its models before anything else is done.

    Raises:
        UserError: nobody answers, or the key is refused.
    """
    url = f"{(llm.url or '').rstrip('/')}/v1/models"
    key = os.environ.get(llm.api_key_env)
    try:
        response = requests.get(url, headers={"Authorization": f"Bearer {key}"} if key else {}, timeout=10)
    except requests.RequestException as error:
        raise UserError(f"llm.url {llm.url}: no answer from {url} ({type(error).__name__})") from None
    if response.status_code in (401, 403):
        raise UserError(f"llm.url {llm.url}: the key in {llm.api_key_env} is refused (HTTP {response.status_code})")
