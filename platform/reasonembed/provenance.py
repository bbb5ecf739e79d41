"""Provenance of results: the versions and the commit of the code that made them."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from reasonembed import __version__

COMMIT = "GIT_COMMIT"
"""Environment variable with the commit, where there is no repository."""
PACKAGES = ("ray", "torch", "transformers", "deepspeed", "faiss-cpu", "pyarrow", "numpy", "bm25s")


def versions() -> dict[str, str]:
    """Returns the versions of this package, Python and the packages that decide results."""
    installed = {"reasonembed": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def git_commit() -> str | None:
    """Returns the commit of the running code, followed by ``+`` if files have changed since; None if unknown.
    On a cluster or in an image, which have no repository, the environment variable ``GIT_COMMIT`` holds it."""
    if commit := os.environ.get(COMMIT):
        return commit
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None
