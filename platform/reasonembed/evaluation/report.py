"""The report: one self-contained HTML page, and the same table for the terminal."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from typing import Any

import jinja2
import pyarrow as pa
from rich.table import Table

from reasonembed.config import Config
from reasonembed.evaluation import plots
from reasonembed.evaluation.failures import Failure
from reasonembed.evaluation.metrics import AVERAGE, MAIN, Interval, differences, intervals
from reasonembed.evaluation.published import Published, published_on

Cells = Mapping[str, Interval]


@dataclass(frozen=True)
class System:
    """A measured system: its mean scores and its per-question table."""

    name: str
    scores: Mapping[str, Mapping[str, float]]
    per_question: pa.Table


@dataclass(frozen=True)
class RunSummary:
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


@dataclass(frozen=True)
class Page:
    """All that a report shows. The last system is what it is about; the one before is what that is compared with."""

    title: str
    benchmark: str
    systems: Sequence[System]
    config: Config
    result: Mapping[str, Any] = field(default_factory=dict)
    """Figures of ``evaluate_ranking``: judgements by equal texts, questions without a ranking, leaks, groups."""
    worst: Sequence[Failure] = ()
    journey: RunSummary = field(default_factory=RunSummary)
    origin: Mapping[str, Any] = field(default_factory=dict)
    """``finished``, ``git_commit`` and ``versions``."""

    @cached_property
    def tasks(self) -> list[str]:
        """In the order of the columns: the average is last."""
        return [*(task for task in self.systems[-1].scores if task != AVERAGE), AVERAGE]

    @cached_property
    def cells(self) -> list[tuple[str, Cells]]:
        """Every system's nDCG@10 with its interval."""
        settings, seed = self.config.evaluate, self.config.run.seed
        return [(system.name, intervals(system.per_question, settings.bootstrap, seed)) for system in self.systems]

    @cached_property
    def difference(self) -> Cells | None:
        """Of the last system to the one before, paired by question."""
        if len(self.systems) < 2:
            return None
        settings = self.config.evaluate
        base, last = self.systems[-2:]
        return differences(
            last.per_question, base.per_question, settings.bootstrap, settings.permutations, self.config.run.seed
        )

    @property
    def difference_name(self) -> str:
        return f"{self.systems[-1].name} − {self.systems[-2].name}"

    @property
    def verdict(self) -> str | None:
        if self.difference is None:
            return None
        return verdict(self.systems[-1].name, self.systems[-2].name, self.difference[AVERAGE])

    @cached_property
    def published(self) -> Published | None:
        return published_on(self.benchmark, self.tasks[:-1], self.config.evaluate.queries)

    @property
    def counts(self) -> dict[str, int]:
        """Questions by task."""
        tasks = self.systems[-1].per_question["task"].to_pylist()
        return {task: tasks.count(task) for task in self.tasks[:-1]}


def verdict(name: str, base: str, difference: Interval) -> str:
    """One sentence on the average difference, which says what its interval allows to say and no more."""
    size = f"{difference.value:+.3f} nDCG@10 (95 % interval {difference.low:+.3f} to {difference.high:+.3f}"
    size += f", p = {difference.p:.2g})" if difference.p is not None else ")"
    if difference.low > 0:
        return f"{name} is better than {base} by {size}."
    if difference.high < 0:
        return f"{name} is worse than {base} by {size}."
    return f"{name} differs from {base} by {size}; the interval includes zero."


def render(page: Page) -> str:
    """The page as one HTML text without outside references."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(
            lambda name: resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
        ),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        page=page,
        figures=[figure for figure in _figures(page) if figure[1]],
        settings=page.config.model_dump_json(indent=1),
        versions=json.dumps(page.origin.get("versions", {}), indent=1),
        main=MAIN,
        average=AVERAGE,
    )


def _figures(page: Page) -> list[tuple[str, str, str]]:
    """(title, SVG, caption); a figure without data is empty text."""
    journey = page.journey
    gains = page.difference or {}
    return [
        (
            "Gains and losses by task",
            plots.gains(gains, page.tasks) if page.difference else "",
            "nDCG@10 × 100 with 95 % intervals; to the right is better than what it is compared with.",
        ),
        (
            "Questions by nDCG@10",
            plots.histogram(page.systems[-1].per_question[MAIN].to_pylist(), "nDCG@10 of a question", bins=20),
            "A mean hides how it comes about: many questions answered half, or half of them answered in full.",
        ),
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


def terminal_table(page: Page) -> Table:
    """nDCG@10 × 100 with intervals; of many tasks only the average, to stay within 80 columns."""
    tasks = page.tasks if len(page.tasks) <= 4 else [AVERAGE]
    questions = page.systems[-1].per_question.num_rows
    table = Table(title=f"nDCG@10 × 100, {questions} questions, 95 % intervals")
    table.add_column("system")
    for task in tasks:
        table.add_column(task, justify="right")
    for name, cells in page.cells:
        table.add_row(name, *(_cell(cells[task], "{:.1f}") for task in tasks))
    if page.difference is not None:
        name = page.difference_name.replace("−", "-")
        table.add_row(name, *(_cell(page.difference[task], "{:+.1f}") for task in tasks))
    return table


def _cell(interval: Interval, form: str) -> str:
    value, low, high = (form.format(100 * v) for v in (interval.value, interval.low, interval.high))
    return f"{value}\n{low} … {high}"
