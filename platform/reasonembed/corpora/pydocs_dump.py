"""Prints the running interpreter's own documentation as JSON lines, one document per line.

``pydocs.py`` runs this script in a child process: importing every module of the standard library has side effects, some
modules print, some fail, and a crash must not end the caller. The script imports only the standard library, so that it
runs under ``python -I`` without a package path.

A line is ``{"id", "title", "text", "kind"}``; ids are the public dotted names (``heapq.nlargest``), and
``topic/<name>`` for pydoc's language topics. The order of the lines is fixed, and no two documents have the
same docstring.
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

# These open a browser, print a poem, start a GUI demo, or are the interpreter's own test suite or editor.
SKIPPED = {"antigravity", "this", "turtledemo", "test", "tests", "idlelib", "lib2to3", "ensurepip", "pydoc_data"}
# Duplicates of modules that are known by another name (os.path), and packages that are being removed from the library.
SKIPPED |= {"posix", "posixpath", "ntpath", "genericpath", "nturl2path", "distutils"}
# Many machines have no Tk; the codec tables are a hundred modules with the same documentation.
SKIPPED |= {"tkinter", "turtle", "encodings"}
FIRST = ("builtins", "os", "os.path", "collections", "itertools", "functools")
MIN_CHARS = 12
ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]+")


def is_public(dotted: str) -> bool:
    """Returns whether no part of a dotted name is private or skipped."""
    return not any(part.startswith("_") or part in SKIPPED for part in dotted.split("."))


def module_names() -> list[str]:
    """Returns the public modules of the standard library with submodules, shortest dotted path first, then by name."""
    names = {name for name in sys.stdlib_module_names if is_public(name)}
    for name in sorted(names):
        module = import_quietly(name)
        for submodule in pkgutil.iter_modules(getattr(module, "__path__", None) or []):
            child = f"{name}.{submodule.name}"
            if is_public(child):
                names.add(child)
    names.add("os.path")
    return sorted(names, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name.count("."), name))


def import_quietly(name: str) -> ModuleType | None:
    """Imports a module and hides its output. None when that fails: no Tk, another operating system, a call of exit."""
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            return importlib.import_module(name)
    except BaseException:  # noqa: BLE001 -- SystemExit too: a module that runs as a script must not end the dump
        return None


def public_members(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Yields the classes and functions of a module: those in ``__all__``, or else those that the module defines."""
    declared = getattr(module, "__all__", None)
    for name in sorted(declared if declared is not None else vars(module)):
        if name.startswith("_"):
            continue
        value = getattr(module, name, None)
        if not (inspect.isclass(value) or inspect.isroutine(value)):
            continue
        owner = getattr(value, "__module__", None)
        if declared is not None or owner == module.__name__ or (owner or "").lstrip("_") == module.__name__:
            yield name, value


def public_methods(owner: type) -> Iterator[tuple[str, Any]]:
    """Yields the methods and properties that a class defines itself."""
    for name, value in sorted(vars(owner).items()):
        if not name.startswith("_") and (
            inspect.isroutine(value) or isinstance(value, property | classmethod | staticmethod)
        ):
            yield name, getattr(owner, name, value)


def signature(value: Any) -> str:
    """Returns the parameters of a function or class as text; empty when they are unknown, too long or not stable."""
    try:
        text = str(inspect.signature(value))
    except Exception:  # noqa: BLE001 -- signatures of C functions are evaluated text, and a few raise other errors
        return ""
    # A default value with a memory address would change the document in every run.
    return "" if ADDRESS.search(text) or len(text) > 200 else text


def documents() -> Iterator[dict[str, str]]:
    """Yields a document for every module, class, function, method and language topic."""
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
        # Methods come after the functions: random.sample is a bound method of random.Random, and the shorter name wins.
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
    """Returns the document of an object; its text is empty when the object has no docstring of its own."""
    try:
        # inspect.getdoc would repeat the docstring of a base class for every subclass.
        doc = value.__doc__
        if doc is None and isinstance(value, type) and "__init__" in vars(value):
            doc = vars(value)["__init__"].__doc__  # some classes document only their constructor
        text = inspect.cleandoc(doc or "")
    except Exception:  # noqa: BLE001 -- a property that raises, or a __doc__ that is not a string
        text = ""
    if not isinstance(text, str) or ADDRESS.search(text):
        text = ""
    return {"id": doc_id, "title": title, "text": text, "kind": kind}


def main() -> None:
    """Prints the documents, each id and each text once."""
    os.environ["DISPLAY"] = ""
    warnings.simplefilter("ignore")
    texts: set[str] = set()
    ids: set[str] = set()
    for document in documents():
        text = " ".join(document["text"].split())
        if len(text) < MIN_CHARS or text in texts or document["id"] in ids:
            continue
        texts.add(text)
        ids.add(document["id"])
        sys.stdout.write(json.dumps(document) + "\n")


if __name__ == "__main__":
    main()
