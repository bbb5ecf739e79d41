"""The sections of the language model's engine, and the sampling settings of each LLM stage."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from reasonembed.config.section import EXTRACTIVE, INPUT, LANGUAGE_MODEL, RESOURCES, Affects, Section

VLLM_RESOURCES = frozenset(
    {
        "async_scheduling",
        "block_size",
        "compilation_config",
        "cpu_offload_gb",
        "cpu_offload_params",
        "cudagraph_capture_sizes",
        "data_parallel_size",
        "disable_custom_all_reduce",
        "disable_log_stats",
        "distributed_executor_backend",
        "download_dir",
        "enable_chunked_prefill",
        "enable_expert_parallel",
        "enable_prefix_caching",
        "enable_sleep_mode",
        "enforce_eager",
        "gpu_memory_utilization",
        "kv_cache_memory_bytes",
        "kv_offloading_backend",
        "kv_offloading_size",
        "long_prefill_token_threshold",
        "max_cpu_loras",
        "max_cudagraph_capture_size",
        "max_lora_rank",
        "max_loras",
        "max_model_len",
        "max_num_batched_tokens",
        "max_num_partial_prefills",
        "max_num_scheduled_tokens",
        "max_num_seqs",
        "max_parallel_loading_workers",
        "num_gpu_blocks_override",
        "offload_backend",
        "offload_group_size",
        "offload_num_in_group",
        "offload_prefetch_step",
        "optimization_level",
        "performance_mode",
        "pipeline_parallel_size",
        "prefix_caching_hash_algo",
        "safetensors_load_strategy",
        "scheduling_policy",
        "stream_interval",
        "swap_space",
        "tensor_parallel_size",
        "trust_remote_code",
        "use_tqdm_on_load",
        "watermark",
    }
)
"""Engine arguments of vLLM that decide memory and speed but not what the model writes."""


class Llm(Section):
    """The engine behind clean, generate, rewrite and annotate."""

    engine: Literal["extractive", "vllm", "http"] = "extractive"
    """``extractive`` needs no model: it extracts sentences and grades by retrieval scores. ``vllm`` runs a pool of vLLM
    actors on the cluster. ``http`` sends requests to an OpenAI-compatible server."""
    model: Annotated[str | None, INPUT] = None
    """``vllm``: folder or hub id; ``http``: the model's name at the server. Each stage can name another model."""
    constrained: Annotated[bool, LANGUAGE_MODEL] = True
    """Constrains decoding to the JSON schema of the answer. Answers are checked in any case."""
    retries: Annotated[int, RESOURCES] = Field(2, ge=0)
    """How often a request with an invalid answer is repeated, with another seed, before the row is rejected."""
    concurrent_batches: Annotated[int, RESOURCES] = Field(4, ge=1)
    """Batches that an actor works on at a time; together they hold half of ``run.rows_per_block`` rows. An engine that
    can process more rows at a time needs larger blocks."""
    chat_template_kwargs: Annotated[dict[str, Any], LANGUAGE_MODEL] = {}
    """Arguments for the model's chat template, such as ``{enable_thinking: false}`` for Qwen3."""

    actors: Annotated[tuple[int, int], RESOURCES] = (1, 1)
    """``vllm``: least and largest number of actors; Ray scales the pool between them."""
    tensor_parallel: Annotated[int, RESOURCES] = Field(1, ge=1)
    """``vllm``: GPUs that share one copy of the model."""
    max_model_len: Annotated[int, RESOURCES] = Field(16_384, ge=64)
    """``vllm``: tokens of prompt and answer together; a row that does not fit is rejected. A stage that has failed asks
    for such rows again when it is run again."""
    engine_kwargs: Annotated[dict[str, Any], Affects(engines=("vllm",), resource_keys=VLLM_RESOURCES)] = {}
    """``vllm``: any other engine arguments, such as ``gpu_memory_utilization`` or ``quantization``."""
    trust_remote_code: Annotated[bool, RESOURCES] = False
    """``vllm``: runs code that comes with a model. Only for models whose code you have read."""

    url: Annotated[str | None, RESOURCES] = None
    """``http``: the server's base URL, without ``/v1/chat/completions``."""
    api_key_env: Annotated[str, RESOURCES] = "LLM_API_KEY"
    """``http``: environment variable of the workers with the key; the key is never stored or logged."""
    requests_per_second: Annotated[float | None, RESOURCES] = Field(None, gt=0)
    """``http``: largest number of requests per second over all actors; no limit when left out."""
    timeout_seconds: Annotated[float, RESOURCES] = Field(600, gt=0)
    """``http``: time limit of one request."""
    http_retries: Annotated[int, RESOURCES] = Field(6, ge=0)
    """``http``: how often a request is repeated after 429, 5xx or a lost connection, with growing waits."""

    lexical_weight: Annotated[float, EXTRACTIVE] = Field(0.5, ge=0, le=1)
    """``extractive``: share of BM25 in the fused score; the rest is the dense score."""

    @model_validator(mode="after")
    def _check_engine(self) -> "Llm":
        if self.engine == "http" and not self.url:
            raise ValueError("llm.url is needed by llm.engine http: the base URL of an OpenAI-compatible server")
        if self.actors[0] < 1 or self.actors[0] > self.actors[1]:
            raise ValueError(f"llm.actors must be [least, most] with 1 <= least <= most (got {list(self.actors)})")
        return self


class Sampling(Section):
    """Sampling settings of an LLM stage; the engine ``extractive`` ignores them."""

    model: Annotated[str | None, INPUT] = None
    """Model of this stage, instead of ``llm.model``."""
    lora: Annotated[str | None, INPUT] = None
    """``vllm``: folder or hub id of a LoRA adapter on the model."""
    temperature: Annotated[float, LANGUAGE_MODEL] = Field(0.7, ge=0)
    """0 is greedy decoding. Repeated requests use at least 0.5, because a greedy answer would be the same again."""
    top_p: Annotated[float, LANGUAGE_MODEL] = Field(0.95, gt=0, le=1)
    """Nucleus sampling: the most likely tokens with this total probability."""
    top_k: Annotated[int, LANGUAGE_MODEL] = Field(0, ge=0)
    """Number of most likely tokens to sample from; 0 means all."""
    max_new_tokens: Annotated[int, LANGUAGE_MODEL] = Field(2048, ge=1)
    """Largest number of tokens of an answer, its JSON included."""
    max_text_chars: Annotated[int, LANGUAGE_MODEL] = Field(4000, ge=8)
    """Largest length of each text in an answer; constrained decoding ends it there."""
