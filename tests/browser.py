"""Chromium for the tests: the path in ``CHROMIUM``, one on the path, or Debian's package in a cache folder."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from debian import library_path, unpacked

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


@contextmanager
def running_browser() -> Iterator[Any]:
    """Runs a headless browser under playwright."""
    from playwright.sync_api import sync_playwright

    executable = os.environ.get("CHROMIUM") or next((path for name in NAMES if (path := shutil.which(name))), None)
    env = dict(os.environ)
    if executable is None:
        root = unpacked("chromium", "chromium", "fonts-dejavu-core")
        executable = f"{root}/usr/lib/chromium/chromium"
        fonts = root / "fonts.conf"
        fonts.write_text(f"<fontconfig><dir>{root}/usr/share/fonts</dir></fontconfig>")
        env |= {"LD_LIBRARY_PATH": library_path(root), "FONTCONFIG_FILE": str(fonts)}
    with sync_playwright() as driver:
        # Chromium's sandbox does not run as root; the pages are the tests' own.
        browser = driver.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"], env=env)
        yield browser
        browser.close()
