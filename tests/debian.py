"""Programs from Debian's packages, downloaded with apt and unpacked into a cache folder instead of being installed."""

import os
import shutil
import subprocess
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "reasonembed"


def unpacked(name: str, *packages: str) -> Path:
    """Returns a folder with the files of the packages and their missing dependencies; downloads them the first time.

    Args:
        name: of the folder in the cache.
        packages: names of Debian packages.
    """
    cache = CACHE / name
    root = cache / "root"
    if (cache / "complete").exists():
        return root
    shutil.rmtree(cache, ignore_errors=True)
    archives = cache / "archives"
    (archives / "partial").mkdir(parents=True)
    download = ["apt-get", "install", "-y", "--no-install-recommends", "--download-only", "--reinstall"]
    download += ["-o", f"Dir::Cache::archives={archives}", "-o", "Debug::NoLocking=true"]
    for command in (["apt-get", "update"], [*download, *packages]):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    root.mkdir()
    for package in sorted(archives.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", str(package), str(root)], check=True)
    shutil.rmtree(archives)
    (cache / "complete").touch()
    return root


def library_path(root: Path) -> str:
    """Returns the value of LD_LIBRARY_PATH that names every folder with shared libraries."""
    return ":".join(sorted({str(path.parent) for path in root.rglob("*.so*")}))
