"""The stages that make training data (METHOD: ReMixer). The defaults are the paper's."""

from pydantic import Field

from reasonembed.config.language_model import Sampling


class Clean(Sampling):
    """Documents that do not belong to their task's subject are never sources. Needs a language model."""

    enabled: bool = False
    """Run the stage; without it every document may be a source."""
    temperature: float = Field(0.0, ge=0)
    max_new_tokens: int = Field(32, ge=1)
    subjects: dict[str, str] = {}
    """What a task is about, in words, by task; the task's name when left out."""


class Generate(Sampling):
    """Queries conditioned on a source document."""

    max_queries: int = Field(10_000, ge=1)
    """At most so many source documents (one query each), shared evenly among the tasks."""
    min_chars: int = Field(200, ge=1)
    """A shorter document is not a source."""
    max_chars: int = Field(5_000, ge=1)
    """A longer document is not a source."""
    protect: list[str] = []
    """Benchmarks (as ``evaluate.benchmark``) to keep out of the data, beside the corpus's own and the one evaluated."""
    near_question: float = Field(0.5, gt=0, le=1)
    """A query that shares at least this part of its three-word runs (Jaccard) with a question of a protected benchmark
    is dropped as its near-copy."""
    temperature: float = Field(1.0, ge=0)
    top_p: float = Field(0.6, gt=0, le=1)
    max_new_tokens: int = Field(8192, ge=1)


class Rewrite(Sampling):
    """Reasoning rewrites q' of the queries, used only in training (RI)."""

    temperature: float = Field(0.6, ge=0)
    top_p: float = Field(0.9, gt=0, le=1)
    top_k: int = Field(20, ge=0)
    feedback_docs: int = Field(5, ge=1)
    """``extractive``: documents that pseudo-relevance feedback takes its words from."""


class Annotate(Sampling):
    """A grade from 1 to 5 for every pair of query and candidate."""

    top_k: int = Field(40, ge=0)
    expected_grade: bool = True
    """Ask the engine for the probabilities of the grade, so that a pair's score is the expected grade and not one of
    five steps. Needs an engine that reports log-probabilities."""
    relevance: dict[str, str] = {}
    """What makes a document relevant, by task, laid over the built-in definitions."""
