"""Which documents a query is generated from (stage 1): never one that a benchmark judges."""

import random
from collections.abc import Callable
from itertools import islice

import pyarrow as pa

from reasonembed import ids, schemas
from reasonembed.config import Generate

SOURCES = pa.schema([pa.field("query_id", pa.string()), *schemas.CORPUS])
"""Key query_id: documents with the id of the query that each would yield."""


def judged_texts(corpus: pa.Table, questions: pa.Table) -> set[str]:
    """Returns the normalised texts of a benchmark's gold and excluded documents, from the benchmark's own corpus."""
    judged = {
        (row["task"], doc_id)
        for row in questions.select(["task", "gold_ids", "excluded_ids"]).to_pylist()
        for doc_id in (*row["gold_ids"], *row["excluded_ids"])
    }
    keys = zip(corpus["task"].to_pylist(), corpus["doc_id"].to_pylist(), corpus["text"].to_pylist(), strict=True)
    return {ids.normalised_text(text) for task, doc_id, text in keys if (task, doc_id) in judged}


def eligible_sources(corpus: pa.Table, protected: set[str], config: Generate) -> pa.Table:
    """Returns the documents that may be sources, each text once.

    Args:
        corpus: ``schemas.CORPUS``.
        protected: ``judged_texts`` of every protected benchmark.
        config: bounds of the length in characters.

    Returns:
        ``SOURCES``, grouped by task.
    """
    excluded = set(protected)
    eligible = []
    for row in sorted(corpus.to_pylist(), key=lambda row: (row["task"], row["doc_id"])):
        text = ids.normalised_text(row["text"])
        if config.min_chars <= len(row["text"]) <= config.max_chars and text not in excluded:
            excluded.add(text)
            eligible.append({"query_id": ids.query_id(row["task"], row["doc_id"]), **row})
    return pa.Table.from_pylist(eligible, schema=SOURCES)


def sample_sources(
    eligible: pa.Table, config: Generate, seed: int, is_usable: Callable[[str, str], bool] = lambda title, text: True
) -> pa.Table:
    """Returns at most ``config.max_queries`` random rows of ``SOURCES``, spread evenly over the tasks.

    Args:
        eligible: ``SOURCES``.
        config: of the stage.
        seed: of the sample.
        is_usable: whether a query can be generated from a title and a text. A document that is not usable is replaced
            by another random one of its task.
    """
    by_task: dict[str, list[dict[str, str]]] = {}
    for row in eligible.to_pylist():
        by_task.setdefault(row["task"], []).append(row)
    chosen: list[dict[str, str]] = []
    left = config.max_queries
    # Smallest task first: the part of its share that it cannot fill is left for the others.
    tasks = sorted(by_task, key=lambda task: (len(by_task[task]), task))
    for position, task in enumerate(tasks):
        share = min(len(by_task[task]), left // (len(tasks) - position))
        sample = _sample_usable(by_task[task], share, random.Random(f"{seed}/{task}"), is_usable)
        chosen += sample
        left -= len(sample)
    return pa.Table.from_pylist(chosen, schema=SOURCES)


def _sample_usable(
    rows: list[dict[str, str]], count: int, rng: random.Random, is_usable: Callable[[str, str], bool]
) -> list[dict[str, str]]:
    """Returns a random sample of usable rows, fewer than ``count`` where there are no more."""
    sample = rng.sample(rows, count)
    usable = [row for row in sample if is_usable(row["title"], row["text"])]
    if len(usable) < count:
        sampled = {row["query_id"] for row in sample}
        others = [row for row in rows if row["query_id"] not in sampled]
        rng.shuffle(others)
        replacements = (row for row in others if is_usable(row["title"], row["text"]))
        usable += islice(replacements, count - len(usable))
    return usable
