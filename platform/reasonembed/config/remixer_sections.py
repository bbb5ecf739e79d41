"""The sections of the stages that make training data (docs/method.md: ReMixer). The defaults are the paper's."""

from typing import Annotated

from pydantic import Field

from reasonembed.config.language_model import Sampling
from reasonembed.config.section import EXTRACTIVE, INPUT, LANGUAGE_MODEL


class Clean(Sampling):
    """Removal of documents that do not fit their task's subject from the possible sources. Needs a language model."""

    enabled: Annotated[bool, INPUT] = False
    """Runs the stage; without it every document may be a source."""
    temperature: float = Field(0.0, ge=0)
    max_new_tokens: int = Field(32, ge=1)
    subjects: dict[str, str] = {}
    """Description of each task's subject, by task; the task's name when left out."""


class Generate(Sampling):
    """Queries conditioned on a source document."""

    max_queries: int = Field(10_000, ge=1)
    """Largest number of source documents (one query each), spread evenly over the tasks."""
    min_chars: int = Field(200, ge=1)
    """Shortest length of a source document."""
    max_chars: int = Field(5_000, ge=1)
    """Longest length of a source document."""
    protect: Annotated[list[str], INPUT] = []
    """Benchmarks (as ``evaluate.benchmark``) whose judged documents are never sources, in addition to the corpus's own
    questions and the benchmark that is evaluated."""
    near_question: float = Field(0.5, gt=0, le=1)
    """A query is rejected as a near-duplicate of a protected benchmark's question when the Jaccard similarity of their
    three-word shingles is at least this."""
    temperature: float = Field(1.0, ge=0)
    top_p: float = Field(0.6, gt=0, le=1)
    max_new_tokens: int = Field(8192, ge=1)


class Rewrite(Sampling):
    """Reasoning rewrites q' of the queries, used only in training (reasoning intensity)."""

    temperature: float = Field(0.6, ge=0)
    top_p: float = Field(0.9, gt=0, le=1)
    top_k: int = Field(20, ge=0)
    feedback_docs: Annotated[int, EXTRACTIVE] = Field(5, ge=1)
    """``extractive``: number of documents for pseudo-relevance feedback."""


class Annotate(Sampling):
    """A grade from 1 to 5 for every pair of query and candidate."""

    top_k: int = Field(40, ge=0)
    expected_grade: Annotated[bool, LANGUAGE_MODEL] = True
    """Requests the probabilities of the grades, so that a pair's score is the expected grade instead of one of five
    steps. Needs an engine that reports log-probabilities."""
    relevance: Annotated[dict[str, str], LANGUAGE_MODEL] = {}
    """Definitions of relevance by task, which replace the built-in ones."""
