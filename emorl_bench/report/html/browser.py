"""A headless Chromium for screenshots and tests of report.html. Nothing of the report itself needs it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from emorl_bench.core.errors import UserError

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
INSTALL = "apt-get install chromium && pip install playwright"


def chromium() -> str | None:
    """The path of the browser; None where there is none."""
    return next((path for name in PROGRAMS if (path := shutil.which(name)) is not None), None)


@contextmanager
def headless() -> Iterator[Any]:
    """A browser of Playwright (``playwright.sync_api.Browser``).

    Raises:
        UserError: Playwright or Chromium is not installed.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise UserError(f"playwright is not installed: {INSTALL}") from error
    if (program := chromium()) is None:
        raise UserError(f"no Chromium was found on PATH: {INSTALL}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        try:
            yield browser
        finally:
            browser.close()
