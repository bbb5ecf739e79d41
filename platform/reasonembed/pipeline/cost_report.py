"""``jobs/plan.py``: the cost estimate of a configuration in the terminal, from the corpus or measured on a sample."""

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from reasonembed import schemas
from reasonembed.config import Config, Sampling
from reasonembed.llm.engines import engine_of
from reasonembed.pipeline.corpus_stages import CORPUS, judged_questions
from reasonembed.pipeline.cost import (
    CorpusSizes,
    StageCost,
    Throughput,
    estimated_calls,
    estimated_throughput,
    stage_cost,
    total_hours,
)
from reasonembed.pipeline.pipeline import Pipeline
from reasonembed.pipeline.remixer_stages import ANNOTATE, CLEAN, GENERATE, REWRITE, eligible_documents
from reasonembed.remixer.sources import sample_sources

SAMPLED_CANDIDATES = 10


def plan(pipeline: Pipeline) -> tuple[str, dict[str, Any]]:
    """Prints the cost estimate and returns the corpus's URI and the figures.

    With ``plan.sample`` the stages are first run on that many source documents. What this writes is under ``run.root``
    like any other artifact; the vectors of the corpus, its largest part, are reused by the real run.
    """
    config = pipeline.config
    sizes = _corpus_sizes(pipeline)
    measured = _measure(pipeline) if config.plan.sample else {}
    costs = []
    for stage, calls in estimated_calls(sizes, config.clean.enabled).items():
        sampling: Sampling = getattr(config, stage)
        model, throughput, gpus = _model(config, sampling), _throughput(config, sampling), _gpus_per_engine(config)
        costs.append(stage_cost(stage, model, calls, throughput, measured.get(stage), gpus))
    hours = total_hours(costs)
    console = Console(stderr=True, highlight=False)
    console.print(_table(costs, config))
    for cost in costs:
        console.print(f"{cost.stage}: {cost.basis}", soft_wrap=True)
    console.print(_total_line(config, hours), soft_wrap=True)
    figures: dict[str, Any] = {"stages": [asdict(cost) for cost in costs], "gpu_hours": hours}
    if hours is not None and config.plan.price_per_gpu_hour is not None:
        figures["cost"] = round(hours * config.plan.price_per_gpu_hour, 2)
    return pipeline.run(CORPUS).uri, figures


def _corpus_sizes(pipeline: Pipeline) -> CorpusSizes:
    config = pipeline.config
    corpus = pipeline.run(CORPUS)
    lengths = [len(text) for text in corpus.table(schemas.CORPUS)["text"].to_pylist()]
    judged = [pipeline.build(step) for step in judged_questions(pipeline).values()]
    eligible = eligible_documents(corpus, judged, config.generate)
    source_lengths = [len(text) for text in eligible["text"].to_pylist()]
    return CorpusSizes(
        eligible=eligible.num_rows,
        sources=sample_sources(eligible, config.generate, config.run.seed, engine_of(config.llm).can_generate).num_rows,
        candidates=min(config.mine.keep, len(lengths) - 1),
        document_chars=sum(lengths) / max(1, len(lengths)),
        source_chars=sum(source_lengths) / max(1, len(source_lengths)),
    )


def _measure(pipeline: Pipeline) -> dict[str, dict[str, float]]:
    """Returns tokens per call, and calls per second of one engine, of every LLM stage of a small run."""
    config = pipeline.config
    small = config.model_copy(
        update={
            "generate": config.generate.model_copy(update={"max_queries": config.plan.sample}),
            "mine": config.mine.model_copy(update={"keep": min(config.mine.keep, SAMPLED_CANDIDATES)}),
        }
    )
    sample = Pipeline(small, pipeline.backend, pipeline.announce)
    stages = [GENERATE, REWRITE, ANNOTATE, *([CLEAN] if config.clean.enabled else [])]
    engines = engine_of(config.llm).min_workers(config.llm, config.run)
    measured = {}
    for stage in stages:
        artifact = sample.run(stage)
        figures = artifact.figures
        calls = figures["calls"]
        rate = figures.get("rows_per_second") or calls / artifact.seconds
        measured[stage.name] = {
            "calls": calls,
            "input_tokens": figures["input_tokens"] / calls,
            "output_tokens": figures["output_tokens"] / calls,
            "rows_per_second": rate / engines,
        }
    return measured


def _model(config: Config, sampling: Sampling) -> str:
    engine = engine_of(config.llm)
    return engine.model(config.llm, sampling) or engine.name


def _throughput(config: Config, sampling: Sampling) -> Throughput | None:
    if not _gpus_per_engine(config):
        return None
    reading, writing = config.plan.input_tokens_per_second, config.plan.output_tokens_per_second
    if reading and writing:
        return Throughput(reading, writing, "throughput of the config")
    return estimated_throughput(_model(config, sampling), config.plan.gpu, config.llm.tensor_parallel)


def _gpus_per_engine(config: Config) -> int:
    return engine_of(config.llm).gpus(config.llm, config.cluster.llm)


def _table(costs: list[StageCost], config: Config) -> Table:
    table = Table(title=f"{config.corpus.source}, engine {config.llm.engine}")
    for name in ("stage", "model"):
        table.add_column(name)
    for name in ("calls", "tokens in", "tokens out", "GPU-hours"):
        table.add_column(name, justify="right")
    for cost in costs:
        hours = "-" if cost.gpu_hours is None else _hours(cost.gpu_hours)
        counts = (f"{cost.calls:,}", f"{cost.input_tokens:,}", f"{cost.output_tokens:,}")
        table.add_row(cost.stage, cost.model, *counts, hours)
    return table


def _hours(hours: float) -> str:
    return f"{hours:,.1f}" if hours >= 1 else f"{hours:.2g}"


def _total_line(config: Config, hours: float | None) -> str:
    if hours is None:
        return "no GPU-hours: the engine does not run on GPUs of yours, or the size of a model is unknown"
    engines = config.llm.actors[1]
    wall_hours = hours / (engines * config.llm.tensor_parallel)
    text = f"{_hours(hours)} GPU-hours; {_hours(wall_hours)} hours with {engines} actors"
    price = config.plan.price_per_gpu_hour
    return text if price is None else f"{text}; {hours * price:,.2f} at {price:g} a GPU-hour"
