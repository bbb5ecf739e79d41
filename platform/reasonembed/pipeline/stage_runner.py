"""What every stage of the pipeline goes through: find the finished artefact or build it, and say which."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from reasonembed import storage
from reasonembed.artifacts import Artifact, materialise
from reasonembed.config import Config
from reasonembed.distributed.placement import set_default_resources

log = logging.getLogger(__name__)

# Raise a stage's number when its code would give other rows for the same settings and inputs.
VERSIONS = {
    "corpus": 1,
    "questions": 1,
    "encode": 4,
    "clean": 1,
    "generate": 2,
    "rewrite": 2,
    "mine": 2,
    "annotate": 2,
    "assemble": 2,
    "training_data": 1,
    "batches": 1,
    "train": 2,
    "index": 3,
    "rank": 1,
    "evaluate": 2,
}


class StageRunner:
    """
    Args:
        config: of all stages.
        announce: told when a stage starts, ends, or was finished before.
    """

    def __init__(self, config: Config, announce: Callable[[str], None] = log.info) -> None:
        self.config = config
        set_default_resources(config.cluster.data)
        self.announce = announce
        self._root = config.run.root
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
        if not self.artifacts:
            storage.check_writable(self._root)  # before the first stage spends anything
        label = label or stage
        reused: list[Artifact] = []

        def timed(uri: str) -> Mapping[str, Any]:
            self.announce(f"{label}: starting")
            return build(uri)

        started = time.time()
        # JSON knows no tuples; the record must say what the fingerprint was made of.
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in config.items()}
        artifact = materialise(self._root, stage, VERSIONS[stage], plain, inputs, timed, on_reuse=reused.append)
        how = "done before, nothing to do" if reused else f"done in {time.time() - started:.1f} s"
        self.announce(", ".join([f"{label}: {how}", *_account(artifact.figures)]))
        self.artifacts[key or stage] = artifact
        return artifact


def _account(figures: Mapping[str, Any]) -> list[str]:
    """What of a stage's figures people want to see when it ends."""
    parts = []
    if (rows := figures.get("rows")) is not None:
        parts.append(f"{rows:,} rows")
    if figures.get("cached"):
        parts.append(f"{figures['cached']:,} of them encoded before")
    if rejects := figures.get("rejects"):
        reasons = "; ".join(f"{count:,} {reason}" for reason, count in list(rejects.items())[:3])
        parts.append(f"{sum(rejects.values()):,} rejected ({reasons})")
    if grades := figures.get("grades"):
        parts.append("grades " + ", ".join(f"{grade}: {count:,}" for grade, count in grades.items()))
    if figures.get("input_tokens"):
        parts.append(f"{figures['input_tokens']:,} tokens in, {figures['output_tokens']:,} out")
    if (rate := figures.get("prefix_cache_hit_rate")) is not None:
        parts.append(f"prefix cache {rate:.0%}")
    if hours := figures.get("gpu_hours"):
        parts.append(f"{hours:g} GPU-hours")
    return parts
