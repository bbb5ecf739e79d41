"""``jobs/plan.py``: sizes from the corpus, throughput from a table or a sample, and the bill in the terminal."""

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from reasonembed import schemas
from reasonembed.config import Config, Sampling
from reasonembed.pipeline import cost as planning
from reasonembed.pipeline.pipeline import Pipeline

SAMPLED_CANDIDATES = 10


def plan(pipeline: Pipeline) -> tuple[str, dict[str, Any]]:
    """Print the bill; returns the corpus's URI and the figures.

    With ``plan.sample`` the stages are run on so many source documents first. What that writes lies under ``run.root``
    like any other artefact; the corpus's vectors, the largest of it, serve the real run later.
    """
    config = pipeline.config
    sizes = _sizes(pipeline)
    measured = _measure(pipeline) if config.plan.sample else {}
    stages = {
        "clean": config.clean,
        "generate": config.generate,
        "rewrite": config.rewrite,
        "annotate": config.annotate,
    }
    plans = [
        planning.plan_stage(
            stage,
            _model(config, stages[stage]),
            calls,
            _throughput(config, stages[stage]),
            measured.get(stage),
            _gpus_per_actor(config),
        )
        for stage, calls in planning.estimated_calls(sizes, config.clean.enabled).items()
    ]
    hours = planning.total_hours(plans)
    console = Console(stderr=True, highlight=False)
    console.print(_table(plans, config))
    for each in plans:
        console.print(f"{each.stage}: {each.basis}", soft_wrap=True)
    console.print(_sum(config, hours), soft_wrap=True)
    figures: dict[str, Any] = {"stages": [asdict(each) for each in plans], "gpu_hours": hours}
    if hours is not None and config.plan.price_per_gpu_hour is not None:
        figures["cost"] = round(hours * config.plan.price_per_gpu_hour, 2)
    return pipeline.corpus().uri, figures


def _sizes(pipeline: Pipeline) -> planning.Sizes:
    from reasonembed.remixer.generate import sample_sources

    config = pipeline.config
    lengths = [len(text) for text in pipeline.corpus().table(schemas.CORPUS)["text"].to_pylist()]
    eligible = pipeline.eligible()
    of_sources = [len(text) for text in eligible["text"].to_pylist()]
    return planning.Sizes(
        eligible=eligible.num_rows,
        sources=sample_sources(eligible, config.generate, config.run.seed).num_rows,
        keep=min(config.mine.keep, len(lengths) - 1),
        document_chars=sum(lengths) / max(1, len(lengths)),
        source_chars=sum(of_sources) / max(1, len(of_sources)),
    )


def _measure(pipeline: Pipeline) -> dict[str, dict[str, float]]:
    """Tokens per call, and calls per second and actor, of every stage of a small run."""
    config = pipeline.config
    small = config.model_copy(
        update={
            "generate": config.generate.model_copy(update={"max_queries": config.plan.sample}),
            "mine": config.mine.model_copy(update={"keep": min(config.mine.keep, SAMPLED_CANDIDATES)}),
        }
    )
    sample = Pipeline(small, announce=pipeline.announce)
    artifacts = {"generate": sample.generate(), "rewrite": sample.rewrite(), "annotate": sample.annotate()}
    if config.clean.enabled:
        artifacts["clean"] = sample.clean()
    actors = config.llm.actors[0] if config.llm.engine == "vllm" else config.run.actors
    found = {}
    for stage, artifact in artifacts.items():
        figures = artifact.figures
        calls = figures["calls"]
        rate = figures.get("rows_per_second") or calls / artifact.seconds
        found[stage] = {
            "calls": calls,
            "input_tokens": figures["input_tokens"] / calls,
            "output_tokens": figures["output_tokens"] / calls,
            "rows_per_second": rate / actors,
        }
    return found


def _model(config: Config, sampling: Sampling) -> str:
    return "extractive" if config.llm.engine == "extractive" else sampling.model or config.llm.model or ""


def _throughput(config: Config, sampling: Sampling) -> planning.Throughput | None:
    if not _gpus_per_actor(config):
        return None
    reading, writing = config.plan.input_tokens_per_second, config.plan.output_tokens_per_second
    if reading and writing:
        return planning.Throughput(reading, writing, "throughput of the config")
    return planning.estimated_throughput(_model(config, sampling), config.plan.gpu, config.llm.tensor_parallel)


def _gpus_per_actor(config: Config) -> int:
    return config.llm.tensor_parallel if config.llm.engine == "vllm" and config.cluster.llm.gpus else 0


def _table(plans: list[planning.StagePlan], config: Config) -> Table:
    table = Table(title=f"{config.corpus.source}, engine {config.llm.engine}")
    for name in ("stage", "model"):
        table.add_column(name)
    for name in ("calls", "tokens in", "tokens out", "GPU-hours"):
        table.add_column(name, justify="right")
    for each in plans:
        spent = "-" if each.gpu_hours is None else _hours(each.gpu_hours)
        counts = (f"{each.calls:,}", f"{each.input_tokens:,}", f"{each.output_tokens:,}")
        table.add_row(each.stage, each.model, *counts, spent)
    return table


def _hours(hours: float) -> str:
    return f"{hours:,.1f}" if hours >= 1 else f"{hours:.2g}"


def _sum(config: Config, hours: float | None) -> str:
    if hours is None:
        return "no GPU-hours: the engine is not yours to pay by the hour, or a model's size is unknown"
    wall = hours / (config.llm.actors[1] * config.llm.tensor_parallel)
    text = f"{_hours(hours)} GPU-hours; {_hours(wall)} hours with {config.llm.actors[1]} actors"
    price = config.plan.price_per_gpu_hour
    return text if price is None else f"{text}; {hours * price:,.2f} at {price:g} a GPU-hour"
