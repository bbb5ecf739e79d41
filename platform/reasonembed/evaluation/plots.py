"""Plots as inline SVG, in colours that are legible on a light and on a dark page."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from reasonembed.evaluation.metrics import Interval

INK = "#7a828e"
GAIN, LOSS = "#2f8a57", "#c0473c"
BLUE = "#3b7dd8"
CURVES = {
    "loss": ("objective", BLUE),
    "infonce": ("InfoNCE, queries", "#d9822b"),
    "infonce_rewrite": ("InfoNCE, rewrites", "#4a9d6e"),
}
"""Column of the training history to its label and colour."""


def training_curve(history: Sequence[Mapping[str, float]]) -> str:
    """Returns the plot of the losses per step; an empty string without history.

    Args:
        history: the columns of ``CURVES`` for every step.
    """
    if not history:
        return ""
    figure, axes = _figure()
    steps = range(1, len(history) + 1)
    for column, (label, colour) in CURVES.items():
        axes.plot(steps, [row[column] for row in history], color=colour, label=label, linewidth=1.6)
    axes.set_xlabel("step")
    axes.legend(frameon=False, labelcolor=INK)
    return _svg(figure)


def difference_bars(differences: Mapping[str, Interval], tasks: Sequence[str]) -> str:
    """Returns a bar with its interval for the difference of every task, × 100; a bar to the right is a gain."""
    figure, axes = _figure(height=0.9 + 0.32 * len(tasks))
    heights = range(len(tasks), 0, -1)
    for height, task in zip(heights, tasks, strict=True):
        interval = differences[task]
        value, low, high = (100 * v for v in (interval.value, interval.low, interval.high))
        axes.barh(height, value, color=GAIN if value >= 0 else LOSS, height=0.6)
        axes.plot([low, high], [height, height], color=INK, linewidth=1.4)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(list(heights), labels=list(tasks))
    return _svg(figure)


def histogram(values: Sequence[float], label: str, bins: int = 40) -> str:
    """Returns the histogram of values; an empty string without values."""
    if not len(values):
        return ""
    figure, axes = _figure()
    axes.hist(values, bins=bins, color=BLUE)
    axes.set_xlabel(label)
    axes.set_ylabel("count")
    return _svg(figure)


def bar_chart(counts: Mapping[int, int], x_label: str, y_label: str) -> str:
    """Returns a bar for every count, in order of the keys; an empty string without counts."""
    if not counts:
        return ""
    figure, axes = _figure()
    axes.bar([str(key) for key in sorted(counts)], [counts[key] for key in sorted(counts)], color=BLUE)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return _svg(figure)


def _figure(height: float = 3.1) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # imported here because it is slow and only reports need it

    figure = Figure(figsize=(6.2, height), layout="constrained")
    axes = figure.add_subplot()
    axes.tick_params(colors=INK)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(INK)
    return figure, axes


def _svg(figure: Any) -> str:
    import matplotlib

    buffer = io.StringIO()
    # Text stays text and there is no date: the file is smaller, searchable, and equal for equal figures.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "reasonembed"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
