"""The engine behind the stages that ask a language model, and how each of them samples."""

from typing import Any, Literal

from pydantic import Field, model_validator

from reasonembed.config.section import Section


class Llm(Section):
    """The engine behind clean, generate, rewrite and annotate."""

    engine: Literal["extractive", "vllm", "http"] = "extractive"
    """``extractive`` needs no model: it works by extraction and by retrieval scores. ``vllm`` runs a pool of vLLM
    actors on the cluster. ``http`` asks an OpenAI-compatible server."""
    model: str | None = None
    """``vllm``: folder or hub id; ``http``: the model's name at the server. A stage may name another one."""
    constrained: bool = True
    """Let the engine write only what fits the answer's JSON schema. Answers are checked in any case."""
    retries: int = Field(2, ge=0)
    """How often an invalid answer is asked for again, with another seed, before the row is rejected."""
    concurrent_batches: int = Field(4, ge=1)
    """Batches that an actor works on at a time; together they hold half of ``run.rows_per_block``. An engine that
    could work on more rows than that at a time wants larger blocks."""
    chat_template_kwargs: dict[str, Any] = {}
    """Passed to the model's chat template: ``{enable_thinking: false}`` for Qwen3."""

    actors: tuple[int, int] = (1, 1)
    """``vllm``: least and most actors of the pool; Ray scales between them."""
    tensor_parallel: int = Field(1, ge=1)
    """``vllm``: GPUs that share one copy of the model."""
    max_model_len: int = Field(16_384, ge=64)
    """``vllm``: prompt and answer together, in tokens; a row that does not fit is rejected."""
    engine_kwargs: dict[str, Any] = {}
    """``vllm``: any other engine argument, ``gpu_memory_utilization`` or ``quantization``, say."""
    trust_remote_code: bool = False
    """``vllm``: run code that comes with a model. Leave it off unless you have read that code."""

    url: str | None = None
    """``http``: the server's base URL, up to and without ``/v1/chat/completions``."""
    api_key_env: str = "LLM_API_KEY"
    """``http``: environment variable with the key, read by the workers; it is never stored or logged."""
    requests_per_second: float | None = Field(None, gt=0)
    """``http``: at most so many requests a second over all actors; no limit when left out."""
    timeout_seconds: float = Field(600, gt=0)
    """``http``: how long one request may take."""
    http_retries: int = Field(6, ge=0)
    """``http``: how often a request is sent again after 429, 5xx or a lost connection, waiting longer each time."""

    lexical_weight: float = Field(0.5, ge=0, le=1)
    """``extractive``: the share of BM25 in its fused score; the rest is the dense score."""

    @model_validator(mode="after")
    def _has_what_the_engine_needs(self) -> "Llm":
        if self.engine == "http" and not self.url:
            raise ValueError("llm.url is needed by llm.engine http: the base URL of an OpenAI-compatible server")
        if self.actors[0] < 1 or self.actors[0] > self.actors[1]:
            raise ValueError(f"llm.actors must be [least, most] with 1 <= least <= most (got {list(self.actors)})")
        return self


class Sampling(Section):
    """How a stage asks the model; ``extractive`` takes no notice of it."""

    model: str | None = None
    """Another model than ``llm.model``."""
    lora: str | None = None
    """``vllm``: folder or hub id of a LoRA adapter on the model."""
    temperature: float = Field(0.7, ge=0)
    """0 is greedy. An invalid answer is asked for again at 0.5 at least: greedily it would come out the same."""
    top_p: float = Field(0.95, gt=0, le=1)
    """Only the likeliest tokens that have this share of the probability between them."""
    top_k: int = Field(0, ge=0)
    """0 means all tokens."""
    max_new_tokens: int = Field(2048, ge=1)
    """Of an answer, its JSON included."""
    max_text_chars: int = Field(4000, ge=8)
    """Of each text in an answer; a constrained engine ends it there."""
