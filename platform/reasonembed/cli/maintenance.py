"""The jobs ``gc`` and ``verify``, which look after the artifacts of a run."""

import argparse
import json
import sys
from typing import NoReturn

from rich.console import Console

from reasonembed import garbage
from reasonembed.cli.jobs import run_body
from reasonembed.config import load_config
from reasonembed.errors import JobFailed
from reasonembed.verification import damaged_files


def run_gc() -> NoReturn:
    """Lists garbage below ``run.root``, or removes it with ``--delete``."""
    console = Console(stderr=True, highlight=False)

    def body() -> str:
        parser = _parser("gc.py", "List what interrupted runs have left below run.root.")
        parser.add_argument("--delete", action="store_true", help="remove it; without this nothing is changed")
        parser.add_argument(
            "--unreferenced",
            action="store_true",
            help="include finished artifacts that no index, evaluation or pointer needs",
        )
        options = parser.parse_args(sys.argv[1:])
        root = load_config(options.config, options.overrides).run.root
        entries = garbage.find_garbage(root, options.unreferenced)
        for entry in entries:
            console.print(f"{entry.kind}: {entry.uri} ({entry.bytes:,} bytes)", soft_wrap=True)
        if options.delete:
            garbage.remove(entries)
        size = sum(entry.bytes for entry in entries)
        action = "removed" if options.delete else "can be removed with --delete"
        console.print(f"{len(entries)} entries, {size:,} bytes {action}")
        figures = {"entries": len(entries), "bytes": size, "deleted": options.delete}
        return json.dumps({"stage": "gc", "artifact": root, **figures})

    run_body(body, console)


def run_verify() -> NoReturn:
    """Compares the files of all finished artifacts with their records; exits with 1 if one is damaged."""
    console = Console(stderr=True, highlight=False)

    def body() -> str:
        options = _parser("verify.py", "Check all finished artifacts below run.root.").parse_args(sys.argv[1:])
        root = load_config(options.config, options.overrides).run.root
        count, problems = damaged_files(root)
        for problem in problems:
            console.print(problem, style="red", soft_wrap=True)
        if problems:
            raise JobFailed(f"{len(problems)} problems in {root}; remove these folders to rebuild them")
        console.print(f"{count} files agree with their records")
        return json.dumps({"stage": "verify", "artifact": root, "files": count})

    run_body(body, console)


def _parser(name: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=name, description=description)
    parser.add_argument("config", help="YAML file; its run.root is looked at")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    return parser
