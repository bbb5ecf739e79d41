"""Two evaluations side by side."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from reasonembed import artifacts, schemas, storage
from reasonembed.artifacts import Artifact
from reasonembed.config import Config
from reasonembed.corpora.tables import texts_by_key
from reasonembed.errors import UserError
from reasonembed.evaluation.failures import failed_questions
from reasonembed.evaluation.metrics import means
from reasonembed.evaluation.report import Page, System, render


@dataclass(frozen=True)
class Comparison:
    """``figures`` of B less A by task, and the page that shows them."""

    page: Page
    figures: dict[str, Any]


def compare(a: str, b: str, config: Config) -> Comparison:
    """Measure evaluation B against evaluation A, question by question.

    Args:
        a: URI of a finished evaluation, or of a file in it.
        b: another of the same questions.
        config: resamples and seed.

    Raises:
        UserError: one of them is none, or they are not of the same questions.
    """
    first, second = _evaluation(a), _evaluation(b)
    tables = [storage.read_columns(artifact.path("per_query.parquet")) for artifact in (first, second)]
    keys = [table.select(["task", "query_id"]) for table in tables]
    if not keys[0].equals(keys[1]):
        raise UserError(
            f"{a} has {keys[0].num_rows} questions of {_benchmark(first)}, {b} has {keys[1].num_rows} of "
            f"{_benchmark(second)}: only evaluations of the same questions can be compared"
        )
    names = [str(artifact.figures["system"]) for artifact in (first, second)]
    if names[0] == names[1]:
        names = [f"{name} ({artifact.fingerprint[:6]})" for name, artifact in zip(names, (first, second), strict=True)]
    systems = [System(name, means(table), table) for name, table in zip(names, tables, strict=True)]
    page = Page(
        title=f"{names[1]} beside {names[0]} on {_benchmark(second)}",
        benchmark=_benchmark(second),
        systems=systems,
        config=config,
        result=second.figures,
        worst=_worst(second, tables[1]),
        origin=second.record,
    )
    assert page.difference is not None
    figures = {
        "a": {"system": names[0], "artifact": first.uri, "average": systems[0].scores["average"]},
        "b": {"system": names[1], "artifact": second.uri, "average": systems[1].scores["average"]},
        "difference": {task: vars(interval) for task, interval in page.difference.items()},
    }
    return Comparison(page, figures)


def write_page(comparison: Comparison, uri: str) -> None:
    storage.write_bytes(uri, render(comparison.page).encode())


def _evaluation(place: str) -> Artifact:
    folder = place.rsplit("/", 1)[0] if Path(place).suffix in (".html", ".json", ".trec", ".parquet") else place
    found = artifacts.load(storage.absolute(folder).rstrip("/"))
    if found is None or found.stage != "evaluate":
        raise UserError(f"{place} is no finished evaluation; name a folder {json.dumps('<run.root>/evaluate/<id>')}")
    return found


def _benchmark(artifact: Artifact) -> str:
    return str(artifact.record["config"].get("benchmark", ""))


def _worst(artifact: Artifact, table: pa.Table) -> Any:
    """Needs the questions and the ranking, which may have been removed since."""
    questions, ranking, corpus = (artifact.find_input(name) for name in ("questions", "ranking", "corpus"))
    if questions is None or ranking is None or corpus is None:
        return ()
    texts = texts_by_key(corpus.table(schemas.CORPUS))
    return failed_questions(table, questions.table(schemas.QUESTIONS), ranking.table(schemas.RANKING), texts)
