"""Mutations of a YAML document in which one key is misspelt; whoever reads the document must reject each of them."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

# Keys below these are paths or names of our own choice, which nobody can check.
FREE_KEYS = {
    "annotations",
    "matchLabels",
    "nodeSelector",
    "data",
    "file_mounts",
    "available_node_types",
    "metadata.labels",
}


def misspelt_keys(document: Any) -> Iterator[tuple[str, Any]]:
    """Yields, for every key of the document, its dotted path and a copy of the document with that key misspelt."""
    for path in _key_paths(document, ()):
        mutated = copy.deepcopy(document)
        parent = mutated
        for step in path[:-1]:
            parent = parent[step]
        parent[f"{path[-1]}x"] = parent.pop(path[-1])
        yield ".".join(map(str, path)), mutated


def rejects(check: Callable[[Any], object], document: Any) -> bool:
    """Returns whether the check raises an error for the document."""
    try:
        check(document)
    except Exception:  # noqa: BLE001 -- each reader raises errors of its own
        return True
    return False


def _key_paths(value: Any, parent: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, list):
        for position, item in enumerate(value):
            yield from _key_paths(item, (*parent, position))
    elif isinstance(value, dict):
        for key, item in value.items():
            if not (set(parent[-1:]) & FREE_KEYS or ".".join(map(str, parent[-2:])) in FREE_KEYS):
                yield (*parent, key)
            yield from _key_paths(item, (*parent, key))
