"""Each engine as a transform of Ray Data, from the rows of a stage's input to the rows of its scratch files."""

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray

from reasonembed.config import Llm, Run, Sampling
from reasonembed.distributed.llm_rows import Closing, TaskRows, scratch_schema, table_of
from reasonembed.distributed.row_stage import Transform
from reasonembed.embedder.source import resolve
from reasonembed.ids import digest
from reasonembed.llm.expectation import expected_score
from reasonembed.llm.openai_session import OpenAiSession, chat_body
from reasonembed.llm.protocol import Answer, Engine
from reasonembed.llm.replies import json_schema
from reasonembed.remixer.prompting import messages

# A fraction of a CPU for what waits on an engine or hardly works: on a small machine the engines need the rest.
LIGHT = {"num_cpus": 0.1}
ENGINE_CPUS = 0.5
RETRY_TEMPERATURE = 0.5
ERROR = "__inference_error__"  # Ray's column; a row in which it is set passes every step of a processor untouched
LIKELIEST = 5  # log-probabilities asked for per token: one for every grade


@dataclass(frozen=True)
class Asking:
    """One stage's way of asking, for one attempt.

    Args:
        rows: the stage's task.
        llm: the engine.
        sampling: of the stage.
        run: pool sizes, block size and seed.
        attempt: 0, then one more for every time that invalid answers are asked for again.
        grades: the answer ends with a grade whose probabilities are wanted.
        make_engine: of an engine that lives in the worker's process.
        counter: of the meter.
    """

    rows: TaskRows
    llm: Llm
    sampling: Sampling
    run: Run
    attempt: int = 0
    grades: bool = False
    make_engine: Callable[[], Engine] | None = None
    counter: Any = None

    @property
    def model(self) -> str:
        return self.sampling.model or self.llm.model or ""

    @property
    def batch_rows(self) -> int:
        """So many that an actor's concurrent batches are half of ``run.rows_per_block``; the other half is for what the
        engine has finished and nobody has written yet."""
        if self.llm.engine == "extractive":
            return self.run.rows_per_block
        return max(1, self.run.rows_per_block // (2 * self.llm.concurrent_batches))

    @property
    def temperature(self) -> float:
        least = RETRY_TEMPERATURE if self.attempt else 0.0
        return max(self.sampling.temperature, least)

    @property
    def schema(self) -> str:
        return json_schema(self.rows.task.reply, self.sampling.max_text_chars)


def transform_of(asking: Asking) -> Transform:
    return {"extractive": _in_process, "vllm": _vllm, "http": _http}[asking.llm.engine](asking)


def engine_name(llm: Llm, sampling: Sampling) -> str:
    """What rows carry as their writer; of a folder only its name, so that rows do not depend on the machine."""
    if llm.engine == "extractive":
        return "extractive"
    parts = [_short_name(sampling.model or llm.model or "")]
    if sampling.lora:
        parts.append(_short_name(sampling.lora))
    return "+".join(parts)


def _short_name(model: str) -> str:
    return Path(model).name if model.startswith(("/", ".", "~")) else model


# ---- an engine in the worker's own process


class _InProcess:
    def __init__(self, rows: TaskRows, make_engine: Callable[[], Engine]) -> None:
        self._rows = rows
        self._engine = make_engine()

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = batch.to_pylist()
        asked = [self._rows.request(row) for row in rows]
        answers = iter(self._engine.answer([request for request in asked if not isinstance(request, Answer)]))
        results = [
            self._rows.result(row, request if isinstance(request, Answer) else next(answers))
            for row, request in zip(rows, asked, strict=True)
        ]
        return table_of(results, self._rows.task.schema)


def _in_process(asking: Asking) -> Transform:
    def transform(rows: ray.data.Dataset) -> ray.data.Dataset:
        return rows.map_batches(
            _InProcess,
            fn_constructor_args=(asking.rows, asking.make_engine),
            compute=ray.data.ActorPoolStrategy(size=asking.run.actors),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=1,
            zero_copy_batch=True,
        ).map_batches(_closing(asking), batch_size=None, batch_format="pyarrow", **LIGHT)

    return transform


# ---- engines behind a processor of ray.data.llm


def _processed(asking: Asking, processor: Any, finish: Callable[[dict[str, Any]], dict[str, Any]]) -> Transform:
    # Ray would let the rows that failed past a `postprocess` function with all their columns, which no table holds
    # beside the others; this sees every row.
    processor.postprocess = finish

    def transform(rows: ray.data.Dataset) -> ray.data.Dataset:
        return processor(rows).map_batches(_closing(asking), batch_size=None, batch_format="pyarrow", **LIGHT)

    return transform


def _closing(asking: Asking) -> Closing:
    return Closing(asking.rows.task.schema, asking.counter)


def _prepared(
    rows: TaskRows, prepare: Callable[[list[dict[str, str]], str], dict[str, Any]], row: dict[str, Any]
) -> Any:
    """The columns that a processor's steps read, or the error with which they pass a row by."""
    request = rows.request(row)
    if isinstance(request, Answer):
        return {ERROR: request.error}
    return prepare(messages(request), str(row[rows.task.id_column])) | {ERROR: ""}


def _finished(rows: TaskRows, answer_of: Callable[[Mapping[str, Any]], Answer], row: dict[str, Any]) -> dict[str, Any]:
    data = row["__data"]
    result = rows.result(data, answer_of(data))
    return {name: result[name] for name in scratch_schema(rows.task.schema).names}


def _vllm(asking: Asking) -> Transform:
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    llm, sampling = asking.llm, asking.sampling
    model = resolve(asking.model)
    parameters: dict[str, Any] = {
        "temperature": asking.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_new_tokens,
    }
    if sampling.top_k:
        parameters["top_k"] = sampling.top_k
    if llm.constrained:
        parameters["structured_outputs"] = {"json": asking.schema}
    if asking.grades:
        parameters["logprobs"] = LIKELIEST

    def prepare(prompt: list[dict[str, str]], row_id: str) -> dict[str, Any]:
        columns: dict[str, Any] = {"messages": prompt, "sampling_params": parameters}
        return columns | {"model": resolve(sampling.lora)} if sampling.lora else columns

    config = vLLMEngineProcessorConfig(
        model_source=model,
        engine_kwargs=engine_arguments(asking),
        concurrency=llm.actors,
        batch_size=asking.batch_rows,
        max_concurrent_batches=llm.concurrent_batches,
        should_continue_on_error=True,
        log_engine_metrics=True,
        placement_group_config={"bundle_per_worker": {"CPU": ENGINE_CPUS}} if llm.device == "cpu" else None,
        chat_template_stage={"enabled": True, "batch_size": asking.batch_rows, "concurrency": 1, **LIGHT},
        tokenize_stage=False,
        detokenize_stage=False,
    )
    processor = build_processor(
        config,
        preprocess=partial(_prepared, asking.rows, prepare),
        preprocess_map_kwargs=LIGHT,
        postprocess_map_kwargs=LIGHT,
        builder_kwargs={"chat_template_kwargs": dict(llm.chat_template_kwargs)},
    )
    return _processed(asking, processor, partial(_finished, asking.rows, _vllm_answer))


def engine_arguments(asking: Asking) -> dict[str, Any]:
    """vLLM's engine arguments. The seed belongs to the engine: one per request would take vLLM's slow sampler on a GPU,
    and vLLM 0.32 on a CPU dies of one when a prompt is read in chunks."""
    llm = asking.llm
    arguments: dict[str, Any] = {
        "max_model_len": llm.max_model_len,
        "enable_prefix_caching": True,
        "tensor_parallel_size": llm.tensor_parallel,
        "trust_remote_code": llm.trust_remote_code,
        "seed": asking.run.seed + asking.attempt,
        # Of the grammar backends only this one ended in valid JSON every time.
        "structured_outputs_config": {"backend": "guidance", "disable_any_whitespace": True},
    }
    if asking.sampling.lora:
        arguments |= {"enable_lora": True, "max_lora_rank": _lora_rank(resolve(asking.sampling.lora))}
    return arguments | llm.engine_kwargs


def _lora_rank(adapter: str) -> int:
    config = Path(adapter) / "adapter_config.json"
    rank = int(json.loads(config.read_text())["r"]) if config.exists() else 16
    return int(max(8, 2 ** math.ceil(math.log2(rank))))


def _vllm_answer(data: Mapping[str, Any]) -> Answer:
    if error := data.get(ERROR):
        return engine_error(str(error))
    return Answer(
        text=str(data["generated_text"]),
        score=_expected(data),
        input_tokens=int(data["num_input_tokens"]),
        output_tokens=int(data["num_generated_tokens"]),
    )


def _expected(data: Mapping[str, Any]) -> float | None:
    positions = data.get("logprobs")
    if positions is None or not len(positions):
        return None
    tokens = []
    for chosen, position in zip(data["generated_tokens"], positions, strict=False):
        likeliest = {entry["decoded_token"]: entry["logprob"] for entry in position.values() if entry}
        own = position.get(chosen) or position.get(str(chosen)) or {}
        tokens.append((str(own.get("decoded_token", "")), likeliest))
    return expected_score(tokens)


def engine_error(message: str) -> Answer:
    """An engine's error as the reason of a reject, short enough to be counted by."""
    first = message.strip().splitlines()[0]
    if _is_too_long(message):
        return Answer(error="prompt and answer do not fit into llm.max_model_len", lasting=True)
    if first.startswith("row cannot be asked about"):
        return Answer(error=first, lasting=True)
    return Answer(error=f"engine: {first[:200]}")


def _is_too_long(message: str) -> bool:
    return any(words in message for words in ("maximum model length", "maximum context length", "max_model_len"))


def _http(asking: Asking) -> Transform:
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
        preprocess=partial(_prepared, asking.rows, prepare),
        preprocess_map_kwargs=LIGHT,
        postprocess_map_kwargs=LIGHT,
    )
    return _processed(asking, processor, partial(_finished, asking.rows, _http_answer))


def _http_answer(data: Mapping[str, Any]) -> Answer:
    if error := data.get(ERROR):
        return engine_error(str(error))
    answer = Answer(**json.loads(data["http_response"]["answer"]))
    return engine_error(answer.error) if answer.error and _is_too_long(answer.error) else answer


def check_server(llm: Llm) -> None:
    """Ask the server for its models before anything else is done.

    Raises:
        UserError: nobody answers, or the key is refused.
    """
    import requests

    from reasonembed.errors import UserError

    url = f"{(llm.url or '').rstrip('/')}/v1/models"
    key = os.environ.get(llm.api_key_env)
    try:
        response = requests.get(url, headers={"Authorization": f"Bearer {key}"} if key else {}, timeout=10)
    except requests.RequestException as error:
        raise UserError(f"llm.url {llm.url}: no answer from {url} ({type(error).__name__})") from None
    if response.status_code in (401, 403):
        raise UserError(f"llm.url {llm.url}: the key in {llm.api_key_env} is refused (HTTP {response.status_code})")
