"""What of a benchmark a model may have seen in training: questions, gold documents, the whole corpus."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from reasonembed.corpora.tables import texts_by_key
from reasonembed.deduplication import NearDuplicateIndex
from reasonembed.ids import normalised_text

NEAR = 0.5
AWARE_SHARE = 0.01
EXAMPLES = 20


@dataclass(frozen=True)
class TrainingTexts:
    """What a model was trained on.

    Args:
        queries: of training.
        sources: texts of the documents that queries were made from.
        positives: texts that were taught as relevant.
        corpus: texts that the training data was drawn from; its passages, where nothing more is known.
    """

    queries: Sequence[str]
    sources: Sequence[str]
    positives: Sequence[str]
    corpus: Sequence[str]


@dataclass(frozen=True)
class LeakReport:
    """Counts of questions and of gold documents; ``near`` counts the equal ones too."""

    questions: int
    questions_equal: int
    questions_near: int
    gold_documents: int
    gold_as_source_equal: int
    gold_as_source_near: int
    gold_as_positive: int
    corpus_share: float
    """Part of the benchmark's documents that stand in the training corpus."""
    examples: tuple[dict[str, str], ...]
    """A few of the finds: ``what``, ``here`` (of the benchmark) and ``there`` (of the training data)."""

    @property
    def target_corpus_aware(self) -> bool:
        """The model was trained on the benchmark's own corpus (METHOD §3, rule 5)."""
        return self.corpus_share >= AWARE_SHARE

    @property
    def found(self) -> bool:
        return bool(self.questions_near or self.gold_as_source_near)

    def figures(self) -> dict[str, Any]:
        return asdict(self) | {"examples": list(self.examples), "target_corpus_aware": self.target_corpus_aware}


def find_leaks(training: TrainingTexts, questions: pa.Table, corpus: pa.Table) -> LeakReport:
    """
    Args:
        training: of the model.
        questions: ``schemas.QUESTIONS``.
        corpus: ``schemas.CORPUS`` of the benchmark.
    """
    asked = questions["query"].to_pylist()
    text_of = texts_by_key(corpus)
    gold = list(
        dict.fromkeys(
            text_of[row["task"], doc_id]
            for row in questions.select(["task", "gold_ids"]).to_pylist()
            for doc_id in row["gold_ids"]
        )
    )
    examples: list[dict[str, str]] = []
    q_equal, q_near = _overlap("question", asked, training.queries, examples)
    s_equal, s_near = _overlap("gold document as source", gold, training.sources, examples)
    positives = {normalised_text(text) for text in training.positives}
    known = {normalised_text(text) for text in training.corpus}
    seen = sum(normalised_text(text) in known for text in text_of.values())
    return LeakReport(
        questions=len(asked),
        questions_equal=q_equal,
        questions_near=q_near,
        gold_documents=len(gold),
        gold_as_source_equal=s_equal,
        gold_as_source_near=s_near,
        gold_as_positive=sum(normalised_text(text) in positives for text in gold),
        corpus_share=round(seen / max(1, len(text_of)), 4),
        examples=tuple(examples),
    )


def _overlap(what: str, here: Sequence[str], there: Sequence[str], examples: list[dict[str, str]]) -> tuple[int, int]:
    """How many texts of the benchmark have an equal, and how many a near-copy, in the training data."""
    copies = NearDuplicateIndex(here, NEAR)
    equal: set[int] = set()
    near: set[int] = set()
    for text in there:
        found = copies.of(text)
        if found and len(examples) < EXAMPLES and not set(found) <= near:
            examples.append({"what": what, "here": here[found[0]][:300], "there": text[:300]})
        near.update(found)
        equal.update(copies.equal(text))
    return len(equal), len(near)
