"""The evaluation of one ranking: figures, run file, values per question, report."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from reasonembed import storage
from reasonembed.config import Config
from reasonembed.corpora import task_groups
from reasonembed.corpora.tables import texts_by_key
from reasonembed.evaluation import trec
from reasonembed.evaluation.failures import failed_questions
from reasonembed.evaluation.leaks import LeakReport
from reasonembed.evaluation.metrics import RANKED, Interval, differences, group_means, intervals, means, per_question
from reasonembed.evaluation.qrels import add_equal_texts
from reasonembed.evaluation.report import MeasuredSystem, ReportPage, render_page

EQUAL_TEXTS = "_equal_texts"
"""Suffix of the columns of ``per_query.parquet`` that are measured by corrected judgements."""


@dataclass(frozen=True)
class Benchmark:
    """The questions that a system is measured on."""

    name: str
    """As in ``evaluate.benchmark``."""
    questions: pa.Table
    """``schemas.QUESTIONS``."""
    corpus: pa.Table | None
    """``schemas.CORPUS``; None where only judgements are known."""


@dataclass(frozen=True)
class Baseline:
    """The system that another one is compared with."""

    name: str
    ranking: pa.Table
    """``schemas.RANKING``."""


def evaluate_ranking(
    name: str,
    ranking: pa.Table,
    benchmark: Benchmark,
    config: Config,
    uri: str,
    baseline: Baseline | None = None,
    leaks: LeakReport | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Measures a ranking and writes ``metrics.json``, ``run.trec``, ``per_query.parquet`` and ``report.html``.

    Args:
        name: of the system.
        ranking: ``schemas.RANKING``.
        benchmark: the questions.
        config: resamples, seed, and the settings that the report shows.
        uri: of the artifact.
        baseline: the system to compare with.
        leaks: of the benchmark into the model's training data, where that is known.
        provenance: time, commit and versions, for the report; see ``ReportPage.provenance``.

    Returns:
        The content of ``metrics.json``: ``system``, ``scores`` (per task and on average, every measure), ``intervals``
        (nDCG@10) and, where they apply, ``groups``, ``equal_texts``, ``missing``, ``difference`` and ``leaks``.
    """
    settings, seed = config.evaluate, config.run.seed
    table = per_question(benchmark.questions, ranking)
    figures: dict[str, Any] = {
        "system": name,
        "scores": means(table),
        "intervals": _as_dicts(intervals(table, settings.bootstrap, seed)),
    }
    if groups := group_means(figures["scores"], task_groups(benchmark.name)):
        figures["groups"] = groups
    columns = table.add_column(2, "query", benchmark.questions["query"])
    if benchmark.corpus is not None:
        questions, added = add_equal_texts(benchmark.questions, benchmark.corpus)
        corrected = per_question(questions, ranking)
        figures["equal_texts"] = {"added_judgements": added, "scores": means(corrected)}
        for measure in figures["scores"]["average"]:
            columns = columns.append_column(measure + EQUAL_TEXTS, corrected[measure])
    if missing := pc.sum(pc.invert(table[RANKED])).as_py():
        ranked = table.filter(table[RANKED])
        figures["missing"] = {"questions": missing, "scores_without_them": means(ranked)}
    systems = [MeasuredSystem(name, figures["scores"], table)]
    if baseline is not None:
        base = per_question(benchmark.questions, baseline.ranking)
        gains = differences(table, base, settings.bootstrap, settings.permutations, seed)
        figures["difference"] = {"baseline": baseline.name, "by_task": _as_dicts(gains)}
        systems.insert(0, MeasuredSystem(baseline.name, means(base), base))
    if leaks is not None:
        figures["leaks"] = leaks.figures()
    texts = {} if benchmark.corpus is None else texts_by_key(benchmark.corpus)
    page = ReportPage(
        title=f"{name} on {benchmark.name}",
        benchmark=benchmark.name,
        systems=systems,
        config=config,
        figures=figures,
        failures=failed_questions(table, benchmark.questions, ranking, texts),
        provenance=provenance or {},
    )
    storage.write_bytes(storage.join(uri, "run.trec"), trec.format_run(ranking, name.replace("\t", " ")).encode())
    storage.write_table(columns, storage.join(uri, "per_query.parquet"))
    storage.write_bytes(storage.join(uri, "metrics.json"), json.dumps(figures, indent=1).encode())
    storage.write_bytes(storage.join(uri, "report.html"), render_page(page).encode())
    return figures


def _as_dicts(by_task: Mapping[str, Interval]) -> dict[str, dict[str, float]]:
    """Returns the fields of every interval that have a value."""
    return {task: {k: v for k, v in asdict(interval).items() if v is not None} for task, interval in by_task.items()}
