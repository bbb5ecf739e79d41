"""The bill before it is run up: calls, tokens and GPU-hours of every stage that asks a language model.

Where nothing was measured, throughput is estimated_throughput from the hardware. Reading a prompt is bound by arithmetic, two
operations per parameter and token; writing is bound by memory, which gives all parameters once for every token of a
batch, and every sequence's keys and values once for its own. Both get the share of the peak that engines reach in
practice (``EFFICIENCY``). Such figures are good to a factor of two; ``plan.sample`` measures instead.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Published figures of the makers: dense bf16 TFLOP/s, memory GB/s, memory GB.
GPUS = {
    "H200": (989, 4800, 141),
    "H100": (989, 3350, 80),
    "A100": (312, 2039, 80),
    "L40S": (362, 864, 48),
    "L4": (121, 300, 24),
}
EFFICIENCY = 0.45
BATCH, CONTEXT_TOKENS = 128, 1000
BYTES_PER_PARAMETER = 2
# Keys and values of one token, per billion parameters: Qwen3-4B has 36 layers x 8 heads x 128 x 2 x 2 bytes, 147 kB.
KV_BYTES_PER_BILLION = 37_000

CHARS_PER_TOKEN = 4.0
# Tokens that a stage's prompt has beside its material, and that its answer has. The query's length is the paper's mean;
# the annotator's answer follows from its 3-5 billion output tokens for 8.09 million pairs.
PROMPT_TOKENS = {"clean": 150, "generate": 330, "rewrite": 220, "annotate": 380}
QUERY_TOKENS = 221
ANSWER_TOKENS = {"clean": 8, "generate": 235, "rewrite": 600, "annotate": 500}
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*[bB](?![a-zA-Z])")


@dataclass(frozen=True)
class Throughput:
    """Of one engine actor, tokens per second."""

    input_tokens: float
    output_tokens: float
    source: str

    def seconds(self, input_tokens: float, output_tokens: float) -> float:
        return input_tokens / self.input_tokens + output_tokens / self.output_tokens


@dataclass(frozen=True)
class StagePlan:
    stage: str
    model: str
    calls: int
    input_tokens: int
    output_tokens: int
    gpu_hours: float | None
    """None where no GPU of the user's works: an ``http`` or ``extractive`` engine."""
    basis: str
    """Where the figures come from."""


@dataclass(frozen=True)
class Sizes:
    """What the corpus and the configuration say before anything is run."""

    eligible: int
    sources: int
    keep: int
    document_chars: float
    """Mean, of all documents: the candidates."""
    source_chars: float
    """Mean, of the documents that may be sources."""


def billions(model: str) -> float | None:
    """Parameters by a model's name (``Qwen3-8B``), in billions."""
    found = SIZE.findall(model.rsplit("/", 1)[-1])
    return float(found[-1]) if found else None


def estimated_throughput(model: str, gpu: str, tensor_parallel: int) -> Throughput | None:
    """Throughput by arithmetic; None for a model whose name does not tell its size."""
    size = billions(model)
    if size is None:
        return None
    tflops, bandwidth, _ = GPUS[gpu]
    reading = EFFICIENCY * tflops * 1e12 * tensor_parallel / (2 * size * 1e9)
    bytes_per_step = size * 1e9 * BYTES_PER_PARAMETER + BATCH * CONTEXT_TOKENS * KV_BYTES_PER_BILLION * size
    writing = BATCH * EFFICIENCY * bandwidth * 1e9 * tensor_parallel / bytes_per_step
    return Throughput(reading, writing, f"reckoned for {size:g}B on {tensor_parallel} x {gpu}")


def estimated_calls(sizes: Sizes, clean: bool) -> dict[str, tuple[int, float, float]]:
    """Calls of every stage, with input and output tokens per call, by the typical lengths above."""
    document = sizes.document_chars / CHARS_PER_TOKEN
    source = sizes.source_chars / CHARS_PER_TOKEN
    calls = {
        "generate": (sizes.sources, source),
        "rewrite": (sizes.sources, float(QUERY_TOKENS)),
        "annotate": (sizes.sources * sizes.keep, QUERY_TOKENS + document),
    }
    if clean:
        calls = {"clean": (sizes.eligible, source), **calls}
    return {
        stage: (count, PROMPT_TOKENS[stage] + material, float(ANSWER_TOKENS[stage]))
        for stage, (count, material) in calls.items()
    }


def plan_stage(
    stage: str,
    model: str,
    calls: tuple[int, float, float],
    throughput: Throughput | None,
    measured: Mapping[str, float] | None,
    gpus_per_actor: int,
) -> StagePlan:
    """One line of the bill.

    Args:
        stage: its name.
        model: that it asks.
        calls: how many, and input and output tokens of one.
        throughput: of an actor; None where no GPU is the user's.
        measured: of a sample: ``input_tokens`` and ``output_tokens`` per call, ``rows_per_second`` of one actor.
        gpus_per_actor: GPUs that an actor holds.
    """
    count, input_tokens, output_tokens = calls
    basis = "typical lengths"
    seconds = None
    if measured:
        input_tokens, output_tokens = measured["input_tokens"], measured["output_tokens"]
        seconds = count / measured["rows_per_second"]
        basis = f"measured on {int(measured['calls'])} calls"
    elif throughput:
        seconds = throughput.seconds(count * input_tokens, count * output_tokens)
        basis += f", {throughput.source}"
    hours = seconds * gpus_per_actor / 3600 if seconds is not None and gpus_per_actor else None
    return StagePlan(stage, model, count, round(count * input_tokens), round(count * output_tokens), hours, basis)


def total_hours(plans: Sequence[StagePlan]) -> float | None:
    """None where a stage's are unknown."""
    hours = [plan.gpu_hours for plan in plans]
    known = [value for value in hours if value is not None]
    return sum(known) if known and len(known) == len(hours) else None
