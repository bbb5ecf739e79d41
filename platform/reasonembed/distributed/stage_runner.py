"""What every stage of the pipeline goes through: find the finished artefact or build it, and say which."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from reasonembed import storage
from reasonembed.artifacts import Artifact, materialise
from reasonembed.config import Config

log = logging.getLogger(__name__)

# Raise a stage's number when its code would give other rows for the same settings and inputs.
VERSIONS = {
    "corpus": 1,
    "questions": 1,
    "encode": 2,
    "clean": 1,
    "generate": 2,
    "rewrite": 2,
    "mine": 2,
    "annotate": 2,
    "assemble": 2,
    "training_data": 1,
    "train": 1,
    "index": 1,
    "evaluate": 1,
}


class StageRunner:
    """
    Args:
        config: of all stages.
        announce: told when a stage starts, ends, or was finished before.

    Raises:
        UserError: ``run.root`` cannot be written.
    """

    def __init__(self, config: Config, announce: Callable[[str], None] = log.info) -> None:
        self.config = config
        self.announce = announce
        self._root = config.run.root
        storage.check_writable(self._root)
        self.artifacts: dict[str, Artifact] = {}
        """Every artefact that was asked for, by stage (and system)."""

    def _stage(
        self,
        stage: str,
        config: Mapping[str, Any],
        inputs: Mapping[str, Artifact | str],
        build: Callable[[str], Mapping[str, Any]],
        label: str | None = None,
        key: str | None = None,
    ) -> Artifact:
        label = label or stage
        reused: list[Artifact] = []

        def timed(uri: str) -> Mapping[str, Any]:
            self.announce(f"{label}: starting")
            return build(uri)

        started = time.time()
        # JSON knows no tuples; the record must say what the fingerprint was made of.
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in config.items()}
        artifact = materialise(self._root, stage, VERSIONS[stage], plain, inputs, timed, on_reuse=reused.append)
        rows = artifact.figures.get("rows")
        size = f", {rows} rows" if rows is not None else ""
        how = "done before, nothing to do" if reused else f"done in {time.time() - started:.1f} s"
        self.announce(f"{label}: {how}{size}")
        self.artifacts[key or stage] = artifact
        return artifact
