"""The line that says why calls of a language model are about to be paid for again: what differs from earlier runs."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reasonembed import artifacts
from reasonembed.artifacts import Artifact, Identity
from reasonembed.llm.engines import ENGINES

PROMPTED_INPUTS = ("candidates", "queries", "questions", "cleaned", "corpus")
"""Names of the inputs whose rows an LLM stage may ask about; of several the first one counts."""
SHOWN_DIFFERENCES = 8
VALUE_CHARS = 32
HASH, HASH_CHARS = re.compile("[0-9a-f]{16,}"), 8
ABSENT = "none"


def changes_of_paid_stage(root: str, identity: Identity) -> str | None:
    """Returns ``describe_changes`` from the finished artifacts of the stage; None for a stage that costs no calls.

    Args:
        root: ``run.root``.
        identity: of an artifact that is about to be built.
    """
    engine = identity.row_settings.get("llm", {}).get("engine")
    if engine is None or not ENGINES[engine].is_language_model:
        return None
    return describe_changes(identity, artifacts.finished(root, identity.stage))


def describe_changes(identity: Identity, earlier: Sequence[Artifact]) -> str | None:
    """Returns one line with the differences from the most similar artifact, and the number of calls.

    Args:
        identity: of an artifact that is about to be built.
        earlier: finished artifacts of its stage.

    Returns:
        None where no earlier artifact was made from inputs of the same kind.
    """
    current = _values(identity.version, identity.row_settings, _recorded(identity.inputs))
    nearest: tuple[list[str], Artifact] | None = None
    # The newest first: it is the one to compare with if several are equally similar.
    for artifact in sorted(earlier, key=lambda artifact: str(artifact.record.get("finished")), reverse=True):
        record = artifact.record
        if _share_an_input(identity.inputs, record["inputs"]):
            values = _values(record.get("code_version"), record.get("row_settings", {}), record["inputs"])
            differences = _differences(values, current)
            if nearest is None or len(differences) < len(nearest[0]):
                nearest = differences, artifact
    if nearest is None:
        return None
    differences, artifact = nearest
    more = [f"{len(differences) - SHOWN_DIFFERENCES} more"] if len(differences) > SHOWN_DIFFERENCES else []
    shown = "; ".join([*differences[:SHOWN_DIFFERENCES], *more])
    rows = _prompted_rows(identity)
    cost = "its calls are paid anew" if rows is None else f"up to {rows:,} calls are paid anew"
    return f"differs from {artifact.uri} in {shown}; {cost}"


def _recorded(inputs: Mapping[str, Artifact | str]) -> dict[str, Any]:
    return {name: artifacts.recorded(source) for name, source in inputs.items()}


def _share_an_input(inputs: Mapping[str, Artifact | str], recorded: Mapping[str, Any]) -> bool:
    """Returns whether both have an artifact of the same name among their inputs."""
    names = {name for name, source in inputs.items() if isinstance(source, Artifact)}
    return any(name in names and isinstance(source, Mapping) for name, source in recorded.items())


def _values(version: Any, row_settings: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Returns everything that decides the rows, by name."""
    sources = {
        f"input {name}": source["fingerprint"] if isinstance(source, Mapping) else source
        for name, source in inputs.items()
    }
    return {"code version": version, **dict(_flatten(row_settings)), **sources}


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the values of nested settings by dotted names."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} {_shortened(old.get(name, ABSENT))} → {_shortened(new.get(name, ABSENT))}"
        for name in dict.fromkeys([*new, *old])
        if json.dumps(old.get(name, ABSENT)) != json.dumps(new.get(name, ABSENT))
    ]


def _shortened(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if HASH.fullmatch(text):
        return text[:HASH_CHARS]
    half = VALUE_CHARS // 2
    return text if len(text) <= VALUE_CHARS else f"{text[:half]}…{text[-half:]}"


def _prompted_rows(identity: Identity) -> int | None:
    """Returns the largest number of rows that the stage asks about; None where it is not known."""
    for name in PROMPTED_INPUTS:
        source = identity.inputs.get(name)
        if isinstance(source, Artifact):
            rows = source.figures.get("rows")
            limit = identity.row_settings.get("generate", {}).get("max_queries")
            return min((number for number in (rows, limit) if number is not None), default=None)
    return None
