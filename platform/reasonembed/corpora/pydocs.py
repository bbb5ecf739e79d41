"""``pydocs``: the running interpreter's own documentation as a corpus, with a small benchmark written for it.

The documents are the docstrings of the standard library and pydoc's language topics (``pydocs_dump.py`` prints them),
in three tasks by subject. The questions (``pydocs_questions.jsonl``) are of the kind a programmer asks who does not
know the name of the answer. Gold ids that the running Python version lacks are reported and left out.
"""

import json
import logging
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pyarrow as pa

from reasonembed import schemas
from reasonembed.corpora.bright import NO_EXCLUSION
from reasonembed.corpora.tables import corpus_table, question_row
from reasonembed.errors import JobFailed

log = logging.getLogger(__name__)

TASKS = ("data", "language", "system")
INSTRUCTION = "Given a programming question, retrieve documentation that helps answer the question."

# Values, text, numbers, dates, containers, algorithms and file formats.
DATA = frozenset(
    """collections itertools functools heapq bisect array re string textwrap difflib stringprep unicodedata
    random statistics math cmath decimal fractions numbers operator datetime calendar json csv pickle copy
    copyreg struct codecs base64 binascii quopri uu html xml plistlib configparser tomllib netrc graphlib locale
    gettext ipaddress email colorsys xdrlib zlib bz2 lzma gzip""".split()
)
# The language itself, and tools that look at programs.
LANGUAGE = frozenset(
    """topic ast dis inspect importlib typing types dataclasses enum abc contextlib weakref gc sys traceback warnings
    unittest doctest pdb bdb trace tracemalloc timeit cProfile profile pstats pprint reprlib code codeop cmd symtable
    token tokenize keyword pyclbr py_compile compileall site sysconfig pkgutil modulefinder zipimport linecache
    faulthandler pydoc imp rlcompleter tabnanny opcode venv zipapp""".split()
)
# Of the built-in names these are about values; the rest are exceptions, classes and hooks of the language.
DATA_BUILTINS = frozenset(
    """abs all any ascii bin bool bytearray bytes chr complex dict divmod enumerate filter float format frozenset hash
    hex int iter len list map max memoryview min next oct ord pow range reversed round set slice sorted str sum tuple
    zip""".split()
)


def task_of(doc_id: str) -> str:
    parts = doc_id.replace("/", ".").split(".")
    if parts[0] == "builtins":
        return "data" if len(parts) > 1 and parts[1] in DATA_BUILTINS else "language"
    return "data" if parts[0] in DATA else "language" if parts[0] in LANGUAGE else "system"


def read_corpus() -> pa.Table:
    return corpus_table((task_of(row["id"]), row["id"], row["title"], row["text"]) for row in dump())


def dump() -> Iterator[dict[str, str]]:
    """Run ``pydocs_dump.py`` in a child process of the same interpreter.

    Raises:
        JobFailed: the child ended with an error.
    """
    script = Path(__file__).with_name("pydocs_dump.py")
    # -I: no user site, no working directory on the path, so that only the interpreter's own modules are documented.
    command = [sys.executable, "-I", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise JobFailed(f"reading the documentation of {sys.executable} ended with {done.returncode}: {reason[0]}")
    # The corpus must be the same at every run, so a module that prints at import is filtered by shape, not by luck.
    yield from (json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"id": '))


def all_questions() -> list[dict[str, Any]]:
    text = resources.files(__package__).joinpath("pydocs_questions.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def read_questions(split: str, corpus: pa.Table) -> pa.Table:
    """The questions of a split whose answers this Python version documents."""
    known = set(corpus["doc_id"].to_pylist())
    tasks = set(corpus["task"].to_pylist())
    rows = []
    missing: Counter[str] = Counter()
    for question in all_questions():
        if question["split"] != split or question["task"] not in tasks:
            continue
        gold = {doc_id: 1 for doc_id in question["gold_ids"] if doc_id in known}
        missing.update(doc_id for doc_id in question["gold_ids"] if doc_id not in known)
        if gold:
            excluded = [doc_id for doc_id in question["excluded_ids"] if doc_id != NO_EXCLUSION]
            row = question_row(question["task"], question["id"], question["query"], INSTRUCTION, gold, excluded)
            rows.append(row)
        else:
            log.warning("question %s left out: none of its gold documents exist here", question["id"])
    if missing:
        log.warning("pydocs: %d gold ids do not exist in this Python: %s", len(missing), ", ".join(sorted(missing)))
    return pa.Table.from_pylist(rows, schema=schemas.QUESTIONS)
