"""Plots as inline SVG, in colours that read on a light and a dark page."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

INK = "#7a828e"
GOOD, BAD = "#2f8a57", "#c0473c"
COLOURS = {"loss": "#3b7dd8", "infonce": "#d9822b", "infonce_rewrite": "#4a9d6e"}
LABELS = {"loss": "objective", "infonce": "InfoNCE, queries", "infonce_rewrite": "InfoNCE, rewrites"}


def training_curve(history: Sequence[Mapping[str, float]]) -> str:
    """Loss by step; empty text without history."""
    if not history:
        return ""
    figure, axes = _figure()
    steps = range(1, len(history) + 1)
    for key, colour in COLOURS.items():
        axes.plot(steps, [row[key] for row in history], color=colour, label=LABELS[key], linewidth=1.6)
    axes.set_xlabel("step")
    axes.legend(frameon=False, labelcolor=INK)
    return _svg(figure)


def gains(cells: Mapping[str, Any], tasks: Sequence[str]) -> str:
    """Differences by task with their intervals, × 100: a bar to the right is a gain."""
    figure, axes = _figure(height=0.9 + 0.32 * len(tasks))
    places = range(len(tasks), 0, -1)
    for place, task in zip(places, tasks, strict=True):
        value, low, high = (100 * v for v in (cells[task].value, cells[task].low, cells[task].high))
        axes.barh(place, value, color=GOOD if value >= 0 else BAD, height=0.6)
        axes.plot([low, high], [place, place], color=INK, linewidth=1.4)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(list(places), labels=list(tasks))
    return _svg(figure)


def histogram(values: Sequence[float], label: str, bins: int = 40) -> str:
    if not len(values):
        return ""
    figure, axes = _figure()
    axes.hist(values, bins=bins, color=COLOURS["loss"])
    axes.set_xlabel(label)
    axes.set_ylabel("count")
    return _svg(figure)


def bars(counts: Mapping[int, int], x_label: str, y_label: str) -> str:
    if not counts:
        return ""
    figure, axes = _figure()
    axes.bar([str(key) for key in sorted(counts)], [counts[key] for key in sorted(counts)], color=COLOURS["loss"])
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return _svg(figure)


def _figure(height: float = 3.1) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # slow to import, and only a report needs it

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
    # Text as text and no date: smaller, searchable, and the same file for the same figures.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "reasonembed"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
