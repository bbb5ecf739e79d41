"""A stage as a value, and a step: a stage with its inputs and settings, which has a fingerprint."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, Union

import pyarrow as pa

from reasonembed import artifacts
from reasonembed.artifacts import Artifact
from reasonembed.config import Config
from reasonembed.pipeline.backend import Backend

Source = Union["Step", Artifact, str]
"""An input of a step: another step, a finished artifact, or the hash of content from outside the run."""
Figures = Mapping[str, Any]
"""Counts and measurements for an artifact's record."""


class Planner(Protocol):
    """What the functions of stages use of the pipeline (``pipeline.Pipeline``)."""

    config: Config

    def step(self, stage: "Stage", *arguments: Any) -> "Step":
        """Returns a stage with its inputs and settings; builds nothing."""
        ...

    def read_corpus(self, source: str, tasks: tuple[str, ...] | None) -> pa.Table:
        """Returns ``schemas.CORPUS`` of a source."""
        ...


@dataclass(frozen=True)
class Stage:
    """One kind of artifact: what it is made of, and how.

    The functions take the pipeline and then the stage's own arguments, such as the source of a corpus.

    Args:
        name: the folder below ``run.root`` and the stage's name everywhere.
        version: of the code; it is raised when the same settings and inputs would give other rows.
        inputs: returns the steps, artifacts and content hashes that the stage reads, by name. They are built in order.
        build: writes the artifact's data and returns figures for its record.
        settings: what the stage reads of the configuration: sections, or single settings (``generate.min_chars``).
            Those that affect rows (``config.section``) are part of the fingerprint.
        parameters: returns further values that decide the rows, mostly the stage's own arguments.
        details: returns further values for the record only, from the pipeline, the finished inputs and the arguments.
        defaults: returns the arguments when none are given.
        label: returns the name in messages, where it is not the stage's name.
        key: returns the name in ``Pipeline.artifacts`` and in the summary, where it is not the stage's name.
        publish: called with ``run.root`` and the finished artifact, whether it was built or found.
    """

    name: str
    version: int
    inputs: Callable[..., Mapping[str, Source]]
    build: Callable[["Build"], Figures]
    settings: tuple[str, ...] = ()
    parameters: Callable[..., Mapping[str, Any]] = lambda pipeline, *arguments: {}
    details: Callable[..., Mapping[str, Any]] = lambda pipeline, inputs, *arguments: {}
    defaults: Callable[[Config], tuple[Any, ...]] = lambda config: ()
    label: Callable[..., str | None] = lambda pipeline, *arguments: None
    key: Callable[..., str | None] = lambda pipeline, *arguments: None
    publish: Callable[[str, Artifact], None] = lambda root, artifact: None


@dataclass(frozen=True, eq=False)
class Step:
    """A stage with everything that decides its rows."""

    stage: Stage
    arguments: tuple[Any, ...]
    inputs: Mapping[str, Source]
    row_settings: Mapping[str, Any] = field(repr=False)
    """Settings and parameters that affect the rows."""
    config: Mapping[str, Any] = field(repr=False)
    """All settings that the stage reads, and its parameters, for the record."""
    label: str
    key: str

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the stage's name and version, the settings that affect rows, and the inputs' fingerprints."""
        inputs = {
            name: source if isinstance(source, str) else source.fingerprint for name, source in self.inputs.items()
        }
        return artifacts.fingerprint(self.stage.name, self.stage.version, self.row_settings, inputs)


@dataclass(frozen=True)
class Build:
    """What a stage's ``build`` function works with."""

    pipeline: Planner
    backend: Backend
    """Where the work runs."""
    step: Step
    inputs: Mapping[str, Artifact]
    """The inputs that are artifacts, all finished."""
    uri: str
    """Where the data goes."""

    @property
    def config(self) -> Config:
        """The configuration of the run."""
        return self.pipeline.config
