"""``pydocs``: the running interpreter's own documentation as a corpus, with a small benchmark written for it.

The documents are the docstrings of the standard library and pydoc's language topics (printed by ``pydocs_dump.py``), in
three tasks by subject. The questions (``pydocs_questions.jsonl``) are those of a programmer who does not know the name
of the answer. Gold ids that the running Python version does not have are logged and left out.
"""

import json
import logging
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import pyarrow as pa

from reasonembed import schemas
from reasonembed.corpora.bright import NO_EXCLUSION
from reasonembed.corpora.reader import Reader
from reasonembed.corpora.tables import documents_table, question_row
from reasonembed.errors import JobFailed

log = logging.getLogger(__name__)

TASKS = ("data", "language", "system")
INSTRUCTION = "Given a programming question, retrieve documentation that helps answer the question."

# Modules about values, text, numbers, dates, containers, algorithms and file formats.
DATA = frozenset(
    """collections itertools functools heapq bisect array re string textwrap difflib stringprep unicodedata
    random statistics math cmath decimal fractions numbers operator datetime calendar json csv pickle copy
    copyreg struct codecs base64 binascii quopri uu html xml plistlib configparser tomllib netrc graphlib locale
    gettext ipaddress email colorsys xdrlib zlib bz2 lzma gzip""".split()
)
# Modules about the language itself, and tools that process programs.
LANGUAGE = frozenset(
    """topic ast dis inspect importlib typing types dataclasses enum abc contextlib weakref gc sys traceback warnings
    unittest doctest pdb bdb trace tracemalloc timeit cProfile profile pstats pprint reprlib code codeop cmd symtable
    token tokenize keyword pyclbr py_compile compileall site sysconfig pkgutil modulefinder zipimport linecache
    faulthandler pydoc imp rlcompleter tabnanny opcode venv zipapp""".split()
)
# Built-in names about values; the other built-in names are exceptions, classes and hooks of the language.
DATA_BUILTINS = frozenset(
    """abs all any ascii bin bool bytearray bytes chr complex dict divmod enumerate filter float format frozenset hash
    hex int iter len list map max memoryview min next oct ord pow range reversed round set slice sorted str sum tuple
    zip""".split()
)


class PydocsReader(Reader):
    """Reads the documentation of the running interpreter, and the questions about it."""

    instructions = dict.fromkeys(TASKS, INSTRUCTION)

    def read_documents(self, location: str, tasks: Sequence[str] | None) -> pa.Table:
        """Returns the documents of all tasks."""
        return documents_table((task_of(row["id"]), row["id"], row["title"], row["text"]) for row in _dump())

    def read_questions(
        self, location: str, split: str, corpus: pa.Table, tasks: Sequence[str] | None, queries: str
    ) -> pa.Table:
        """Returns the questions of a split (``dev`` or ``test``) of which a gold document is in the corpus."""
        corpus_ids = set(corpus["doc_id"].to_pylist())
        corpus_tasks = set(corpus["task"].to_pylist())
        rows = []
        missing: Counter[str] = Counter()
        for question in all_questions():
            if question["split"] != split or question["task"] not in corpus_tasks:
                continue
            gold = {doc_id: 1 for doc_id in question["gold_ids"] if doc_id in corpus_ids}
            missing.update(doc_id for doc_id in question["gold_ids"] if doc_id not in corpus_ids)
            if not gold:
                log.warning("pydocs: question %s is left out: none of its gold documents exist", question["id"])
                continue
            excluded = [doc_id for doc_id in question["excluded_ids"] if doc_id != NO_EXCLUSION]
            row = question_row(question["task"], question["id"], question["query"], INSTRUCTION, gold, excluded)
            rows.append(row)
        if missing:
            log.warning("pydocs: %d gold ids do not exist in this Python: %s", len(missing), ", ".join(sorted(missing)))
        return pa.Table.from_pylist(rows, schema=schemas.QUESTIONS)

    def evaluation_splits(self, location: str) -> list[str]:
        """Returns both splits."""
        return ["dev", "test"]


def task_of(doc_id: str) -> str:
    """Returns the task of a document, by the module that its id starts with."""
    parts = doc_id.replace("/", ".").split(".")
    if parts[0] == "builtins":
        return "data" if len(parts) > 1 and parts[1] in DATA_BUILTINS else "language"
    return "data" if parts[0] in DATA else "language" if parts[0] in LANGUAGE else "system"


def all_questions() -> list[dict[str, Any]]:
    """Returns the questions of both splits: ``task``, ``id``, ``split``, ``query``, ``gold_ids``, ``excluded_ids``."""
    text = resources.files(__package__).joinpath("pydocs_questions.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def _dump() -> Iterator[dict[str, str]]:
    """Yields the documents that ``pydocs_dump.py`` prints in a child process of the same interpreter.

    Raises:
        JobFailed: the child process failed.
    """
    script = Path(__file__).with_name("pydocs_dump.py")
    # -I: without user site and working directory on the path, only the interpreter's own modules are documented.
    command = [sys.executable, "-I", str(script)]
    process = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    if process.returncode:
        reason = process.stderr.strip().splitlines()[-1:] or ["no message"]
        raise JobFailed(f"{script.name} of {sys.executable} ended with exit code {process.returncode}: {reason[0]}")
    # Modules that print at import add lines of their own, which do not have the form of a document.
    yield from (json.loads(line) for line in process.stdout.splitlines() if line.startswith('{"id": '))
