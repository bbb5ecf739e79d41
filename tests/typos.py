"""A file of ours with a key misspelt: whoever reads it must refuse it."""

import copy
from collections.abc import Iterator
from typing import Any

# Their keys are names that somebody chose, or paths.
FREE = {"annotations", "matchLabels", "nodeSelector", "data", "file_mounts", "available_node_types", "metadata.labels"}


def typos(document: Any) -> Iterator[tuple[str, Any]]:
    """The document with one key misspelt, for every key in it."""
    for place in _keys(document, ()):
        wrong = copy.deepcopy(document)
        holder = wrong
        for step in place[:-1]:
            holder = holder[step]
        holder[f"{place[-1]}x"] = holder.pop(place[-1])
        yield ".".join(map(str, place)), wrong


def refused(check: Any, written: Any) -> bool:
    try:
        check(written)
    except Exception:  # noqa: BLE001 -- each reader has its own
        return True
    return False


def _keys(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, list):
        for number, each in enumerate(value):
            yield from _keys(each, (*path, number))
    elif isinstance(value, dict):
        for key, each in value.items():
            if not (set(path[-1:]) & FREE or ".".join(map(str, path[-2:])) in FREE):
                yield (*path, key)
            yield from _keys(each, (*path, key))
