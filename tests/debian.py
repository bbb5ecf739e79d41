"""Programs out of Debian's packages, fetched with apt and unpacked into a cache folder instead of being installed."""

import os
import shutil
import subprocess
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "reasonembed"


def unpacked(name: str, *packages: str) -> Path:
    """The folder with the files of the packages and of all they need that is not installed; fetched the first time."""
    cache = CACHE / name
    root = cache / "root"
    if (cache / "complete").exists():
        return root
    shutil.rmtree(cache, ignore_errors=True)
    archives = cache / "archives"
    (archives / "partial").mkdir(parents=True)
    fetch = ["apt-get", "install", "-y", "--no-install-recommends", "--download-only", "--reinstall"]
    fetch += ["-o", f"Dir::Cache::archives={archives}", "-o", "Debug::NoLocking=true"]
    for command in (["apt-get", "update"], [*fetch, *packages]):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    root.mkdir()
    for package in sorted(archives.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", str(package), str(root)], check=True)
    shutil.rmtree(archives)
    (cache / "complete").touch()
    return root


def library_path(root: Path) -> str:
    """For LD_LIBRARY_PATH: every folder with shared libraries."""
    return ":".join(sorted({str(path.parent) for path in root.rglob("*.so*")}))
