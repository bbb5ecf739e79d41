"""Leaks of a benchmark into training data: questions, gold documents, the whole corpus."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from reasonembed.corpora.tables import texts_by_key
from reasonembed.deduplication import NearDuplicateIndex
from reasonembed.ids import normalised_text

NEAR_COPY = 0.5
"""Jaccard similarity of three-word runs from which on two texts are near-copies."""
AWARE_SHARE = 0.01
MAX_EXAMPLES = 20
EXAMPLE_CHARS = 300


@dataclass(frozen=True)
class TrainingTexts:
    """The texts that a model was trained on."""

    queries: Sequence[str]
    """The training queries."""
    sources: Sequence[str]
    """The documents that queries were generated from."""
    positives: Sequence[str]
    """The passages that were relevant in training."""
    corpus: Sequence[str]
    """The corpus that the training data was made from; where it is unknown, all training passages."""


@dataclass(frozen=True)
class LeakReport:
    """Numbers of a benchmark's questions and gold documents that occur in the training data.

    ``near`` counts near-copies, equal texts included.
    """

    questions: int
    questions_equal: int
    questions_near: int
    gold_documents: int
    gold_as_source_equal: int
    gold_as_source_near: int
    gold_as_positive: int
    corpus_share: float
    """Share of the benchmark's documents that the training corpus contains."""
    examples: tuple[dict[str, str], ...]
    """Some of the matches: ``what`` matched, its text in the benchmark (``here``) and in the training data (``there``).
    These are the keys of ``metrics.json``."""

    @property
    def target_corpus_aware(self) -> bool:
        """Whether the model was trained on the benchmark's own corpus, so that its figures are not comparable with
        those of models that were not."""
        return self.corpus_share >= AWARE_SHARE

    @property
    def has_leaks(self) -> bool:
        """Whether a question, or a gold document as source of a query, occurs in the training data."""
        return bool(self.questions_near or self.gold_as_source_near)

    def figures(self) -> dict[str, Any]:
        """Returns the entry ``leaks`` of ``metrics.json``."""
        return asdict(self) | {"examples": list(self.examples), "target_corpus_aware": self.target_corpus_aware}


def find_leaks(training: TrainingTexts, questions: pa.Table, corpus: pa.Table) -> LeakReport:
    """Counts what the training data contains of a benchmark.

    Args:
        training: the texts that the model was trained on.
        questions: ``schemas.QUESTIONS``.
        corpus: ``schemas.CORPUS`` of the benchmark.
    """
    queries = questions["query"].to_pylist()
    texts = texts_by_key(corpus)
    gold = list(
        dict.fromkeys(
            texts[row["task"], doc_id]
            for row in questions.select(["task", "gold_ids"]).to_pylist()
            for doc_id in row["gold_ids"]
        )
    )
    examples: list[dict[str, str]] = []
    questions_equal, questions_near = _count_copies("question", queries, training.queries, examples)
    source_equal, source_near = _count_copies("gold document as source", gold, training.sources, examples)
    positives = {normalised_text(text) for text in training.positives}
    training_corpus = {normalised_text(text) for text in training.corpus}
    shared = sum(normalised_text(text) in training_corpus for text in texts.values())
    return LeakReport(
        questions=len(queries),
        questions_equal=questions_equal,
        questions_near=questions_near,
        gold_documents=len(gold),
        gold_as_source_equal=source_equal,
        gold_as_source_near=source_near,
        gold_as_positive=sum(normalised_text(text) in positives for text in gold),
        corpus_share=round(shared / max(1, len(texts)), 4),
        examples=tuple(examples),
    )


def _count_copies(
    kind: str, benchmark_texts: Sequence[str], training_texts: Sequence[str], examples: list[dict[str, str]]
) -> tuple[int, int]:
    """Returns how many texts of the benchmark have an equal text, and how many a near-copy, in the training data.

    Args:
        kind: what the texts are, for the examples.
        benchmark_texts: to look for.
        training_texts: to look in.
        examples: gets up to ``MAX_EXAMPLES`` of the matches.
    """
    index = NearDuplicateIndex(benchmark_texts, NEAR_COPY)
    equal: set[int] = set()
    near: set[int] = set()
    for text in training_texts:
        matches = index.find_near(text)
        if matches and len(examples) < MAX_EXAMPLES and not set(matches) <= near:
            benchmark_text = benchmark_texts[matches[0]][:EXAMPLE_CHARS]
            examples.append({"what": kind, "here": benchmark_text, "there": text[:EXAMPLE_CHARS]})
        near.update(matches)
        equal.update(index.find_equal(text))
    return len(equal), len(near)
