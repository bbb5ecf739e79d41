"""The report of an evaluation: one self-contained HTML page, and its main table for the terminal."""

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
from reasonembed.evaluation.published import PublishedResults, published_results

IntervalsByTask = Mapping[str, Interval]
TERMINAL_TASKS = 4
"""More columns than this, the average included, do not fit into a terminal of 80 characters."""


@dataclass(frozen=True)
class MeasuredSystem:
    """A system with its measures."""

    name: str
    scores: Mapping[str, Mapping[str, float]]
    """Of ``metrics.means``."""
    per_question: pa.Table
    """Of ``metrics.per_question``."""


@dataclass(frozen=True)
class RunSummary:
    """How the trained model was made; the pipeline's report shows it."""

    stages: Sequence[Mapping[str, Any]] = ()
    """``stage``, ``rows``, ``rejected``, ``reasons`` and ``seconds`` of every stage."""
    history: Sequence[Mapping[str, float]] = ()
    """The figures of every training step."""
    intensity: Sequence[float] = ()
    """The reasoning intensity of every query at every step."""
    grades: Mapping[int, int] = field(default_factory=dict)
    """Grade to number of annotated pairs."""
    examples: Sequence[Mapping[str, Any]] = ()
    """Some training rows: ``query``, ``reasoning_query``, and ``positive`` and ``negative`` with their scores."""


@dataclass(frozen=True)
class ReportPage:
    """The content of a report. Its subject is the last system, which is compared with the one before it."""

    title: str
    benchmark: str
    systems: Sequence[MeasuredSystem]
    config: Config
    figures: Mapping[str, Any] = field(default_factory=dict)
    """Of ``evaluate_ranking``: groups, judgements by equal texts, questions without a ranking, leaks."""
    failures: Sequence[Failure] = ()
    run_summary: RunSummary = field(default_factory=RunSummary)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """``finished``, ``git_commit`` and ``versions``."""

    @cached_property
    def tasks(self) -> list[str]:
        """The columns: the tasks, then the average."""
        return [*(task for task in self.systems[-1].scores if task != AVERAGE), AVERAGE]

    @cached_property
    def cells(self) -> list[tuple[str, IntervalsByTask]]:
        """The name of every system and its nDCG@10 by task."""
        settings, seed = self.config.evaluate, self.config.run.seed
        return [(system.name, intervals(system.per_question, settings.bootstrap, seed)) for system in self.systems]

    @cached_property
    def difference(self) -> IntervalsByTask | None:
        """nDCG@10 of the last system minus that of the one before, paired by question; None for a single system."""
        if len(self.systems) < 2:
            return None
        settings = self.config.evaluate
        base, last = self.systems[-2:]
        return differences(
            last.per_question, base.per_question, settings.bootstrap, settings.permutations, self.config.run.seed
        )

    @property
    def difference_name(self) -> str:
        """The label of the row of differences."""
        return f"{self.systems[-1].name} − {self.systems[-2].name}"

    @property
    def verdict(self) -> str | None:
        """The sentence of ``verdict`` on the average difference; None for a single system."""
        if self.difference is None:
            return None
        return verdict(self.systems[-1].name, self.systems[-2].name, self.difference[AVERAGE])

    @cached_property
    def published(self) -> PublishedResults | None:
        """The published results to show beside the systems."""
        return published_results(self.benchmark, self.tasks[:-1], self.config.evaluate.queries)

    @property
    def counts(self) -> dict[str, int]:
        """Task to its number of questions."""
        tasks = self.systems[-1].per_question["task"].to_pylist()
        return {task: tasks.count(task) for task in self.tasks[:-1]}


def verdict(name: str, base: str, difference: Interval) -> str:
    """Returns one sentence on the difference of two systems that claims no more than its interval allows.

    Args:
        name: of the system.
        base: name of the system that it is compared with.
        difference: in nDCG@10, on average.
    """
    size = f"{difference.value:+.3f} nDCG@10 (95 % interval {difference.low:+.3f} to {difference.high:+.3f}"
    size += f", p = {difference.p:.2g})" if difference.p is not None else ")"
    if difference.low > 0:
        return f"{name} is better than {base} by {size}."
    if difference.high < 0:
        return f"{name} is worse than {base} by {size}."
    return f"{name} differs from {base} by {size}; the interval includes zero."


def render_page(page: ReportPage) -> str:
    """Returns the report as one HTML document without external references."""
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
        plots=[plot for plot in _plots(page) if plot[1]],
        settings=page.config.model_dump_json(indent=1),
        versions=json.dumps(page.provenance.get("versions", {}), indent=1),
        main=MAIN,
        average=AVERAGE,
    )


def _plots(page: ReportPage) -> list[tuple[str, str, str]]:
    """Returns title, SVG and caption of every plot; the SVG of a plot without data is an empty string."""
    run = page.run_summary
    return [
        (
            "Gains and losses by task",
            plots.difference_bars(page.difference, page.tasks) if page.difference else "",
            "Differences in nDCG@10 × 100 with 95 % intervals. A bar to the right is a gain.",
        ),
        (
            "Questions by nDCG@10",
            plots.histogram(page.systems[-1].per_question[MAIN].to_pylist(), "nDCG@10 of a question", bins=20),
            "The distribution behind the mean: many questions answered in part, or some answered completely and others "
            "not at all.",
        ),
        (
            "Training",
            plots.training_curve(run.history),
            "Loss per step: the training objective, and InfoNCE of the queries and of their rewrites.",
        ),
        (
            "Reasoning intensity",
            plots.histogram(run.intensity, "reasoning intensity of a query at a step"),
            "The loss of a query divided by the loss of its rewrite, which weights the queries in training. It is 1 "
            "where the rewrite does not help.",
        ),
        (
            "Grades",
            plots.bar_chart(run.grades, "grade", "pairs"),
            "Annotated pairs by relevance grade. Pairs of grade "
            f"{page.config.assemble.positive_grade} or better are positives.",
        ),
    ]


def terminal_table(page: ReportPage) -> Table:
    """Returns the table of nDCG@10 × 100 with intervals. Of many tasks it shows only the average."""
    tasks = page.tasks if len(page.tasks) <= TERMINAL_TASKS else [AVERAGE]
    questions = page.systems[-1].per_question.num_rows
    table = Table(title=f"nDCG@10 × 100, {questions} questions, 95 % intervals")
    table.add_column("system")
    for task in tasks:
        table.add_column(task, justify="right")
    for name, cells in page.cells:
        table.add_row(name, *(_format_cell(cells[task], "{:.1f}") for task in tasks))
    if page.difference is not None:
        name = page.difference_name.replace("−", "-")
        table.add_row(name, *(_format_cell(page.difference[task], "{:+.1f}") for task in tasks))
    return table


def _format_cell(interval: Interval, number_format: str) -> str:
    value, low, high = (number_format.format(100 * v) for v in (interval.value, interval.low, interval.high))
    return f"{value}\n{low} … {high}"
