"""Print the running interpreter's own documentation as JSON lines, one document a line.

Run as a script in a child process (``pydocs.py`` does so): importing every module of the standard library has side
effects, some print, some fail, and a crash must not take the caller along. Imports nothing but the standard library,
so that it also runs under ``python -I`` with no package path.

A line is ``{"id", "title", "text", "kind"}``; ids are the public dotted names (``heapq.nlargest``) and ``topic/<name>``
for pydoc's language topics. Lines come in a fixed order and no two have the same docstring.
"""

import importlib
import inspect
import io
import json
import os
import pkgutil
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from types import ModuleType
from typing import Any

# Opens a browser, prints a poem, starts a GUI demo, or is the interpreter's own test suite or editor.
SKIPPED = {"antigravity", "this", "turtledemo", "test", "tests", "idlelib", "lib2to3", "ensurepip", "pydoc_data"}
# Twins of a module that people know by another name (os.path), and packages on their way out of the library.
SKIPPED |= {"posix", "posixpath", "ntpath", "genericpath", "nturl2path", "distutils"}
# Many machines lack Tk; the codec tables say the same hundred times over.
SKIPPED |= {"tkinter", "turtle", "encodings"}
FIRST = ("builtins", "os", "os.path", "collections", "itertools", "functools")
MIN_CHARS = 12
ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]+")


def is_public(dotted: str) -> bool:
    return not any(part.startswith("_") or part in SKIPPED for part in dotted.split("."))


def module_names() -> list[str]:
    """Public standard-library modules, submodules included, shortest dotted path first, then by name."""
    names = {name for name in sys.stdlib_module_names if is_public(name)}
    for name in sorted(names):
        module = import_quietly(name)
        for found in pkgutil.iter_modules(getattr(module, "__path__", None) or []):
            child = f"{name}.{found.name}"
            if is_public(child):
                names.add(child)
    names.add("os.path")
    return sorted(names, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name.count("."), name))


def import_quietly(name: str) -> ModuleType | None:
    # Any failure (no Tk, another operating system, a deprecated module that exits) leaves the module out.
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            return importlib.import_module(name)
    except BaseException:  # noqa: BLE001 -- SystemExit too: a script-like module must not end the dump
        return None


def public_members(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Classes and functions that are this module's own: in ``__all__``, or else defined there."""
    declared = getattr(module, "__all__", None)
    for name in sorted(declared if declared is not None else vars(module)):
        if name.startswith("_"):
            continue
        value = getattr(module, name, None)
        if not (inspect.isclass(value) or inspect.isroutine(value)):
            continue
        home = getattr(value, "__module__", None)
        if declared is not None or home == module.__name__ or (home or "").lstrip("_") == module.__name__:
            yield name, value


def public_methods(owner: type) -> Iterator[tuple[str, Any]]:
    for name, value in sorted(vars(owner).items()):
        if not name.startswith("_") and (
            inspect.isroutine(value) or isinstance(value, property | classmethod | staticmethod)
        ):
            yield name, getattr(owner, name, value)


def signature(value: Any) -> str:
    try:
        text = str(inspect.signature(value))
    except Exception:  # noqa: BLE001 -- signatures in C text are evaluated, and a few of those fail in odd ways
        return ""
    # A default that shows its memory address would change the document with every run.
    return "" if ADDRESS.search(text) or len(text) > 200 else text


def documents() -> Iterator[dict[str, str]]:
    for module_name in module_names():
        module = import_quietly(module_name)
        if module is None:
            continue
        yield entry(module_name, module_name, module, "module")
        members = list(public_members(module))
        for name, value in members:
            title = name if module_name == "builtins" else f"{module_name}.{name}"
            kind = "class" if inspect.isclass(value) else "function"
            yield entry(f"{module_name}.{name}", title + signature(value), value, kind)
        # After the functions: random.sample is a bound method of random.Random, and known by the shorter name.
        for class_name, owner in members:
            if inspect.isclass(owner):
                for name, value in public_methods(owner):
                    title = (
                        f"{class_name}.{name}" if module_name == "builtins" else f"{module_name}.{class_name}.{name}"
                    )
                    yield entry(f"{module_name}.{class_name}.{name}", title + signature(value), value, "method")
    topics = import_quietly("pydoc_data.topics")
    for name, text in sorted(getattr(topics, "topics", {}).items()):
        yield {"id": f"topic/{name}", "title": name, "text": text.strip(), "kind": "topic"}


def entry(doc_id: str, title: str, value: Any, kind: str) -> dict[str, str]:
    try:
        # Not inspect.getdoc: it would give a subclass the documentation of its base again.
        doc = value.__doc__
        if doc is None and isinstance(value, type) and "__init__" in vars(value):
            doc = vars(value)["__init__"].__doc__  # some classes document their constructor alone
        text = inspect.cleandoc(doc or "")
    except Exception:  # noqa: BLE001 -- a property that raises, or a __doc__ that is not a string
        text = ""
    if not isinstance(text, str) or ADDRESS.search(text):
        text = ""
    return {"id": doc_id, "title": title, "text": text, "kind": kind}


def main() -> None:
    os.environ["DISPLAY"] = ""
    warnings.simplefilter("ignore")
    seen: set[str] = set()
    ids: set[str] = set()
    for document in documents():
        key = " ".join(document["text"].split())
        if len(key) < MIN_CHARS or key in seen or document["id"] in ids:
            continue
        seen.add(key)
        ids.add(document["id"])
        sys.stdout.write(json.dumps(document) + "\n")


if __name__ == "__main__":
    main()
