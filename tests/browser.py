"""Chromium for the tests: ``CHROMIUM``, one on the path, or Debian's, fetched into a cache folder."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from debian import library_path, unpacked

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


@contextmanager
def browser() -> Iterator[Any]:
    """A headless browser, driven by playwright."""
    from playwright.sync_api import sync_playwright

    found = os.environ.get("CHROMIUM") or next((path for name in NAMES if (path := shutil.which(name))), None)
    env = dict(os.environ)
    if found is None:
        root = unpacked("chromium", "chromium", "fonts-dejavu-core")
        found = f"{root}/usr/lib/chromium/chromium"
        fonts = root / "fonts.conf"
        fonts.write_text(f"<fontconfig><dir>{root}/usr/share/fonts</dir></fontconfig>")
        env |= {"LD_LIBRARY_PATH": library_path(root), "FONTCONFIG_FILE": str(fonts)}
    with sync_playwright() as driver:
        # As root there is no sandbox to be had; what is opened are pages of the tests themselves.
        running = driver.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"], env=env)
        yield running
        running.close()
