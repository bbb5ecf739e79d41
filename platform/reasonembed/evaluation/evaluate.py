"""One ranking measured: figures, run, values per question, report."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from reasonembed import storage
from reasonembed.config import Config
from reasonembed.corpora import bright
from reasonembed.corpora.tables import texts_by_key
from reasonembed.evaluation import trec
from reasonembed.evaluation.failures import failed_questions
from reasonembed.evaluation.leaks import LeakReport
from reasonembed.evaluation.metrics import RANKED, differences, group_means, intervals, means, per_question
from reasonembed.evaluation.qrels import with_equal_texts
from reasonembed.evaluation.report import Page, System, render

EQUAL_TEXTS = "_equal_texts"


@dataclass(frozen=True)
class Benchmark:
    """
    Args:
        name: as in the configuration.
        questions: ``schemas.QUESTIONS``.
        corpus: ``schemas.CORPUS``; None where only judgements are known.
    """

    name: str
    questions: pa.Table
    corpus: pa.Table | None


@dataclass(frozen=True)
class Baseline:
    name: str
    ranking: pa.Table


def evaluate_ranking(
    name: str,
    ranking: pa.Table,
    benchmark: Benchmark,
    config: Config,
    uri: str,
    baseline: Baseline | None = None,
    leaks: LeakReport | None = None,
    origin: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Measure a ranking; ``metrics.json``, ``run.trec``, ``per_query.parquet`` and ``report.html`` go below ``uri``.

    Args:
        name: of the system.
        ranking: ``schemas.RANKING``.
        benchmark: what it ranks.
        config: resamples, seed, and what the report shows.
        uri: of the artefact.
        baseline: to compare with.
        leaks: of the model, where its training is known.
        origin: commit and versions, for the report.

    Returns:
        Figures: ``scores`` (per task and average, every measure), ``intervals`` (nDCG@10) and, where there is something
        to say, ``groups``, ``equal_texts``, ``missing``, ``difference`` and ``leaks``.
    """
    settings, seed = config.evaluate, config.run.seed
    table = per_question(benchmark.questions, ranking)
    result: dict[str, Any] = {
        "system": name,
        "scores": means(table),
        "intervals": _plain(intervals(table, settings.bootstrap, seed)),
    }
    if benchmark.name.startswith(("bright:", "bright-long:")) and (g := group_means(result["scores"], bright.GROUPS)):
        result["groups"] = g
    columns = table.add_column(2, "query", benchmark.questions["query"])
    if benchmark.corpus is not None:
        questions, added = with_equal_texts(benchmark.questions, benchmark.corpus)
        corrected = per_question(questions, ranking)
        result["equal_texts"] = {"added_judgements": added, "scores": means(corrected)}
        for measure in result["scores"]["average"]:
            columns = columns.append_column(measure + EQUAL_TEXTS, corrected[measure])
    if missing := pc.sum(pc.invert(table[RANKED])).as_py():
        answered = table.filter(table[RANKED])
        result["missing"] = {"questions": missing, "scores_without_them": means(answered)}
    systems = [System(name, result["scores"], table)]
    if baseline is not None:
        base = per_question(benchmark.questions, baseline.ranking)
        gains = differences(table, base, settings.bootstrap, settings.permutations, seed)
        result["difference"] = {"baseline": baseline.name, "by_task": _plain(gains)}
        systems.insert(0, System(baseline.name, means(base), base))
    if leaks is not None:
        result["leaks"] = leaks.figures()
    texts = {} if benchmark.corpus is None else texts_by_key(benchmark.corpus)
    page = Page(
        title=f"{name} on {benchmark.name}",
        benchmark=benchmark.name,
        systems=systems,
        config=config,
        result=result,
        worst=failed_questions(table, benchmark.questions, ranking, texts),
        origin=origin or {},
    )
    storage.write_bytes(storage.join(uri, "run.trec"), trec.run_lines(ranking, name.replace("\t", " ")).encode())
    storage.write_table(columns, storage.join(uri, "per_query.parquet"))
    storage.write_bytes(storage.join(uri, "metrics.json"), json.dumps(result, indent=1).encode())
    storage.write_bytes(storage.join(uri, "report.html"), render(page).encode())
    return result


def _plain(found: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    return {task: {k: v for k, v in asdict(interval).items() if v is not None} for task, interval in found.items()}
