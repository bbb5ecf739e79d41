"""The comparison of two finished evaluations, question by question."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from reasonembed import artifacts, schemas, storage
from reasonembed.artifacts import Artifact
from reasonembed.config import Config
from reasonembed.corpora.tables import texts_by_key
from reasonembed.errors import UserError
from reasonembed.evaluation.failures import Failure, failed_questions
from reasonembed.evaluation.metrics import means
from reasonembed.evaluation.report import MeasuredSystem, ReportPage, render_page


@dataclass(frozen=True)
class Comparison:
    """The result of comparing evaluation B with evaluation A."""

    page: ReportPage
    figures: dict[str, Any]
    """``a`` and ``b`` (system, artifact, average scores), and ``difference``: nDCG@10 of B minus A by task."""


def compare(a: str, b: str, config: Config) -> Comparison:
    """Compares evaluation B with evaluation A.

    Args:
        a: URI of a finished evaluation, or of a file in it.
        b: URI of another one of the same questions.
        config: resamples and seed.

    Raises:
        UserError: one of the two is no finished evaluation, or they are not of the same questions.
    """
    evaluations = _load_evaluation(a), _load_evaluation(b)
    tables = [storage.read_columns(artifact.path("per_query.parquet")) for artifact in evaluations]
    keys = [table.select(["task", "query_id"]) for table in tables]
    benchmarks = [_benchmark_name(artifact) for artifact in evaluations]
    if not keys[0].equals(keys[1]):
        raise UserError(
            f"{a} has {keys[0].num_rows} questions of {benchmarks[0]}, {b} has {keys[1].num_rows} of {benchmarks[1]}: "
            "only evaluations of the same questions can be compared"
        )
    names = [str(artifact.figures["system"]) for artifact in evaluations]
    if names[0] == names[1]:
        names = [f"{name} ({artifact.fingerprint[:6]})" for name, artifact in zip(names, evaluations, strict=True)]
    systems = [MeasuredSystem(name, means(table), table) for name, table in zip(names, tables, strict=True)]
    page = ReportPage(
        title=f"{names[1]} compared with {names[0]} on {benchmarks[1]}",
        benchmark=benchmarks[1],
        systems=systems,
        config=config,
        figures=evaluations[1].figures,
        failures=_failures(evaluations[1], tables[1]),
        provenance=evaluations[1].record,
    )
    assert page.difference is not None
    figures: dict[str, Any] = {
        side: {"system": system.name, "artifact": artifact.uri, "average": system.scores["average"]}
        for side, system, artifact in zip("ab", systems, evaluations, strict=True)
    }
    figures["difference"] = {task: vars(interval) for task, interval in page.difference.items()}
    return Comparison(page, figures)


def write_page(comparison: Comparison, uri: str) -> None:
    """Writes the report of a comparison as one HTML file."""
    storage.write_bytes(uri, render_page(comparison.page).encode())


def _load_evaluation(uri: str) -> Artifact:
    """Loads a finished evaluation by the URI of its folder or of a file in it."""
    folder = uri.rsplit("/", 1)[0] if Path(uri).suffix in (".html", ".json", ".trec", ".parquet") else uri
    artifact = artifacts.load(storage.absolute(folder).rstrip("/"))
    if artifact is None or artifact.stage != "evaluate":
        raise UserError(f'{uri} is no finished evaluation; name a folder "<run.root>/evaluate/<id>"')
    return artifact


def _benchmark_name(artifact: Artifact) -> str:
    return str(artifact.record["config"].get("benchmark", ""))


def _failures(artifact: Artifact, table: pa.Table) -> Sequence[Failure]:
    """Returns the worst questions of an evaluation; none if its questions, ranking or corpus have been removed."""
    questions, ranking, corpus = (artifact.find_input(name) for name in ("questions", "ranking", "corpus"))
    if questions is None or ranking is None or corpus is None:
        return ()
    texts = texts_by_key(corpus.table(schemas.CORPUS))
    return failed_questions(table, questions.table(schemas.QUESTIONS), ranking.table(schemas.RANKING), texts)
