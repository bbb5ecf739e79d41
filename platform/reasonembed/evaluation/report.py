"""The report: one self-contained HTML page, and the same table for the terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import jinja2
import pyarrow as pa
from rich.table import Table

from reasonembed.config import Config
from reasonembed.evaluation import plots
from reasonembed.evaluation.metrics import AVERAGE, MAIN, Interval, intervals


@dataclass(frozen=True)
class System:
    """A measured system: its mean scores and its per-question table."""

    name: str
    scores: Mapping[str, Mapping[str, float]]
    per_question: pa.Table


@dataclass(frozen=True)
class Journey:
    """How the trained model came about, for the pipeline's report."""

    stages: Sequence[Mapping[str, Any]] = ()
    """``stage``, ``rows``, ``rejects`` and ``seconds`` of every stage."""
    history: Sequence[Mapping[str, float]] = ()
    """Figures of every training step."""
    intensity: Sequence[float] = ()
    """Reasoning intensities of all (step, query)."""
    grades: Mapping[int, int] = field(default_factory=dict)
    """Annotated pairs by grade."""
    examples: Sequence[Mapping[str, Any]] = ()
    """A few training rows, as they are."""


def cells(systems: Sequence[System], config: Config) -> list[dict[str, Any]]:
    """A row a system: nDCG@10 with its interval per task, average last."""
    rows = []
    for system in systems:
        found = intervals(system.per_question, config.evaluate.bootstrap, config.run.seed)
        rows.append({"name": system.name, "cells": found})
    return rows


def gain(systems: Sequence[System], config: Config) -> dict[str, Interval] | None:
    """The trained model's nDCG@10 less the base model's, paired by question."""
    by_name = {system.name: system.per_question for system in systems}
    if not {"base", "trained"} <= set(by_name):
        return None
    return intervals(by_name["trained"], config.evaluate.bootstrap, config.run.seed, baseline=by_name["base"])


def verdict(difference: Interval) -> str:
    """One sentence on the average difference, which says what its interval allows to say and no more."""
    size = f"{difference.value:+.3f} nDCG@10 (95 % interval {difference.low:+.3f} to {difference.high:+.3f})"
    if difference.low > 0:
        return f"The trained model is better than the base model by {size}."
    if difference.high < 0:
        return f"The trained model is worse than the base model by {size}."
    return f"The trained model differs from the base model by {size}; the interval includes zero."


def render(title: str, systems: Sequence[System], config: Config, journey: Journey | None = None) -> str:
    """The page as one HTML text without outside references."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(
            lambda name: resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
        ),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    rows = cells(systems, config)
    difference = gain(systems, config)
    journey = journey or Journey()
    figures = [
        (
            "Training",
            plots.training_curve(journey.history),
            "Loss per step; the objective, and InfoNCE of the queries and of their rewrites.",
        ),
        (
            "Reasoning intensity",
            plots.histogram(journey.intensity, "RI of a query at a step"),
            "How much the rewrite shortens the way to the positive; 1 means not at all. Queries are weighted by it.",
        ),
        (
            "Grades",
            plots.bars(journey.grades, "grade", "pairs"),
            "Annotated pairs by relevance grade; 3 and better are positives.",
        ),
    ]
    return environment.get_template("report.html.j2").render(
        title=title,
        tasks=[*(t for t in systems[0].scores if t != AVERAGE), AVERAGE],
        rows=rows,
        counts={task: systems[0].per_question["task"].to_pylist().count(task) for task in systems[0].scores},
        difference=difference,
        verdict=verdict(difference[AVERAGE]) if difference else None,
        figures=[figure for figure in figures if figure[1]],
        systems=systems,
        stages=journey.stages,
        examples=journey.examples,
        config=config.model_dump_json(indent=1),
        main=MAIN,
    )


def terminal_table(systems: Sequence[System], config: Config) -> Table:
    """nDCG@10 × 100 with intervals, narrow enough for 80 columns."""
    tasks = [*(t for t in systems[0].scores if t != AVERAGE), AVERAGE]
    table = Table(title=f"nDCG@10 × 100, {systems[0].per_question.num_rows} questions, 95 % intervals")
    table.add_column("system")
    for task in tasks:
        table.add_column(task, justify="right")
    rows = cells(systems, config)
    if (difference := gain(systems, config)) is not None:
        rows.append({"name": "trained - base", "cells": difference})
    for row in rows:
        table.add_row(row["name"], *(_cell(row["cells"][task], "-" in row["name"]) for task in tasks))
    return table


def _cell(interval: Interval, signed: bool) -> str:
    form = "{:+.1f}" if signed else "{:.1f}"
    value, low, high = (form.format(100 * v) for v in (interval.value, interval.low, interval.high))
    return f"{value}\n{low} … {high}"
