"""Cost estimates of the LLM stages before they run: calls, tokens and GPU-hours.

Without measurements throughput is estimated from the hardware. Reading a prompt is bound by arithmetic: two operations
per parameter and token. Writing is bound by memory bandwidth: all parameters are read once for every token of a batch,
and every sequence's keys and values once for each of its own tokens. Both are multiplied by the share of the peak that
engines reach in practice (``EFFICIENCY``). Such estimates are good to a factor of two;
``plan.sample`` measures instead.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reasonembed.llm.protocol import LlmTask
from reasonembed.remixer.annotate import AnnotateTask
from reasonembed.remixer.clean import CleanTask
from reasonembed.remixer.generate import GenerateTask
from reasonembed.remixer.rewrite import RewriteTask

GPUS = {
    "H200": (989, 4800, 141),
    "H100": (989, 3350, 80),
    "A100": (312, 2039, 80),
    "L40S": (362, 864, 48),
    "L4": (121, 300, 24),
}
"""The makers' published figures: dense bf16 TFLOP/s, memory GB/s, memory GB."""
EFFICIENCY = 0.45
BATCH, CONTEXT_TOKENS = 128, 1000
BYTES_PER_PARAMETER = 2
KV_BYTES_PER_BILLION = 37_000
"""Keys and values of one token, per billion parameters. Qwen3-4B: 36 layers x 8 heads x 128 x 2 x 2 bytes = 147 kB."""
CHARS_PER_TOKEN = 4.0
QUERY_TOKENS = 221
"""Mean length of a query in the paper."""
MODEL_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*[bB](?![a-zA-Z])")


@dataclass(frozen=True)
class Throughput:
    """Tokens per second of one engine."""

    input_tokens: float
    output_tokens: float
    source: str
    """Where the figures come from."""

    def seconds(self, input_tokens: float, output_tokens: float) -> float:
        """Returns the seconds that one engine takes for so many tokens."""
        return input_tokens / self.input_tokens + output_tokens / self.output_tokens


@dataclass(frozen=True)
class Calls:
    """Calls of a stage, and the tokens of one of them."""

    count: int
    input_tokens: float
    output_tokens: float


@dataclass(frozen=True)
class StageCost:
    """Estimated cost of a stage."""

    stage: str
    model: str
    calls: int
    input_tokens: int
    output_tokens: int
    gpu_hours: float | None
    """None where none of the user's GPUs works: with the engines ``http`` and ``extractive``."""
    basis: str
    """Where the figures come from."""


@dataclass(frozen=True)
class CorpusSizes:
    """Numbers of rows and text lengths that follow from the corpus and the configuration."""

    eligible: int
    sources: int
    candidates: int
    """Per query."""
    document_chars: float
    """Mean of all documents, which are the candidates."""
    source_chars: float
    """Mean of the documents that may be sources."""


def billions(model: str) -> float | None:
    """Returns the parameters in billions that a model's name states (``Qwen3-8B``)."""
    sizes = MODEL_SIZE.findall(model.rsplit("/", 1)[-1])
    return float(sizes[-1]) if sizes else None


def estimated_throughput(model: str, gpu: str, tensor_parallel: int) -> Throughput | None:
    """Returns the throughput of one engine by arithmetic; None for a model whose name does not state its size.

    Args:
        model: its name.
        gpu: key of ``GPUS``.
        tensor_parallel: GPUs of one engine.
    """
    size = billions(model)
    if size is None:
        return None
    tflops, bandwidth, _ = GPUS[gpu]
    reading = EFFICIENCY * tflops * 1e12 * tensor_parallel / (2 * size * 1e9)
    bytes_per_step = size * 1e9 * BYTES_PER_PARAMETER + BATCH * CONTEXT_TOKENS * KV_BYTES_PER_BILLION * size
    writing = BATCH * EFFICIENCY * bandwidth * 1e9 * tensor_parallel / bytes_per_step
    return Throughput(reading, writing, f"estimated for {size:g}B on {tensor_parallel} x {gpu}")


def estimated_calls(sizes: CorpusSizes, clean: bool) -> dict[str, Calls]:
    """Returns the calls of every LLM stage, by stage, with the typical lengths that the tasks declare.

    Args:
        sizes: of the corpus.
        clean: whether the stage ``clean`` runs.
    """
    document = sizes.document_chars / CHARS_PER_TOKEN
    source = sizes.source_chars / CHARS_PER_TOKEN
    stages: list[tuple[type[LlmTask], int, float]] = [
        *([(CleanTask, sizes.eligible, source)] if clean else []),
        (GenerateTask, sizes.sources, source),
        (RewriteTask, sizes.sources, QUERY_TOKENS),
        (AnnotateTask, sizes.sources * sizes.candidates, QUERY_TOKENS + document),
    ]
    return {
        task.name: Calls(count, task.tokens.prompt + text_tokens, task.tokens.answer)
        for task, count, text_tokens in stages
    }


def stage_cost(
    stage: str,
    model: str,
    calls: Calls,
    throughput: Throughput | None,
    measured: Mapping[str, float] | None,
    gpus_per_engine: int,
) -> StageCost:
    """Returns the cost of one stage.

    Args:
        stage: its name.
        model: that it asks.
        calls: estimated calls.
        throughput: of an engine; None where no GPU of the user's works.
        measured: of a sample: ``calls``, ``input_tokens`` and ``output_tokens`` per call, ``rows_per_second`` of one
            engine.
        gpus_per_engine: GPUs of one engine.
    """
    input_tokens, output_tokens = calls.input_tokens, calls.output_tokens
    basis = "typical lengths"
    seconds = None
    if measured:
        input_tokens, output_tokens = measured["input_tokens"], measured["output_tokens"]
        seconds = calls.count / measured["rows_per_second"]
        basis = f"measured on {int(measured['calls'])} calls"
    elif throughput:
        seconds = throughput.seconds(calls.count * input_tokens, calls.count * output_tokens)
        basis += f", {throughput.source}"
    hours = seconds * gpus_per_engine / 3600 if seconds is not None and gpus_per_engine else None
    tokens = (round(calls.count * input_tokens), round(calls.count * output_tokens))
    return StageCost(stage, model, calls.count, *tokens, hours, basis)


def total_hours(costs: Sequence[StageCost]) -> float | None:
    """Returns the GPU-hours of all stages; None where those of a stage are unknown."""
    hours = [cost.gpu_hours for cost in costs]
    known = [value for value in hours if value is not None]
    return sum(known) if known and len(known) == len(hours) else None
