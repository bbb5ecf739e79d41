"""``train.dry_run``: estimates of a training, in the terminal and as figures. Needs neither weights nor data."""

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from reasonembed import storage
from reasonembed.config import Config
from reasonembed.pipeline.cost import GPUS
from reasonembed.redapter.batch_plan import TrainingStep, held_out_ids, plan_steps
from reasonembed.redapter.memory_estimate import (
    MemoryEstimate,
    ModelShape,
    count_texts,
    memory_per_gpu,
    model_shape,
)
from reasonembed.remixer.interchange import read_published

GIB = 1 << 30


def dry_run(config: Config) -> tuple[str, dict[str, Any]]:
    """Prints the estimates as a table.

    Returns:
        The base model's name, and the figures by name.

    Raises:
        UserError: the model's config cannot be read, or the data is too small for a batch.
    """
    settings = config.train
    shape = model_shape(settings, config.encode)
    memory = memory_per_gpu(shape, settings)
    steps, source = _planned_steps(config)
    texts = count_texts(steps)
    figures = {
        "parameters": shape.parameters,
        "trained_parameters": shape.trained,
        "steps": len(steps),
        "queries": sum(len(step.query_ids) for step in steps),
        "texts": texts,
        "most_tokens": texts * settings.max_tokens,
        "memory_per_gpu": asdict(memory) | {"total": memory.total},
    }
    console = Console(stderr=True, highlight=False)
    console.print(_table(config, shape, memory, figures, source))
    return settings.base_model, figures


def _planned_steps(config: Config) -> tuple[list[TrainingStep], str]:
    """Returns the steps, and a description of the rows from which they are planned."""
    settings, seed = config.train, config.run.seed
    if settings.data and storage.list_files(settings.data):
        table = read_published(settings.data)
        rows = list(zip(table["task"].to_pylist(), table["query_id"].to_pylist(), strict=True))
        held_out = held_out_ids(rows, settings.dev_queries, seed)
        steps = plan_steps([row for row in rows if row[1] not in held_out], settings, seed)
        return steps, f"{len(rows):,} rows of train.data"
    count = config.generate.max_queries - settings.dev_queries
    rows = [("any", str(number)) for number in range(count)]
    return plan_steps(rows, settings, seed), f"no data yet: at most the {count:,} of generate.max_queries"


def _table(config: Config, shape: ModelShape, memory: MemoryEstimate, figures: dict[str, Any], source: str) -> Table:
    settings = config.train
    gpu_gigabytes = GPUS[config.plan.gpu][2]
    trained = f"LoRA of rank {settings.lora_rank}" if settings.lora_rank else "all weights"
    queries_per_worker = f"{-(-settings.batch_size // settings.workers)} a worker"
    table = Table(title=f"{settings.base_model}, {settings.workers} workers, dry run", show_header=False)
    rows = {
        "parameters": f"{shape.parameters / 1e9:,.2f} billion, {shape.trained / 1e6:,.1f} million trained ({trained})",
        "rows": source,
        "steps": f"{figures['steps']:,} of {settings.batch_size} queries x {settings.group_size} passages; "
        f"{queries_per_worker}",
        "texts": f"{figures['texts']:,} with the rewrites, at most {figures['most_tokens'] / 1e9:,.2f} billion tokens",
        "in a step": f"({settings.batch_size}, dim) queries, ({settings.passages_per_step}, dim) passages, "
        f"({settings.batch_size}, {settings.passages_per_step}) cosines",
        **{f"{name} per GPU": f"{value / GIB:,.1f} GiB" for name, value in asdict(memory).items()},
        "memory per GPU": f"{memory.total / GIB:,.1f} GiB, plus what CUDA itself needs; a {config.plan.gpu} has "
        f"{gpu_gigabytes} GB",
    }
    if memory.total > gpu_gigabytes * 1e9:
        rows["memory per GPU"] += ": too little; see train.grad_cache, train.gradient_checkpointing"
    for name, value in rows.items():
        table.add_row(name, value)
    return table
