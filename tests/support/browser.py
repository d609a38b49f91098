"""A real browser for the tests of pages: Debian's Chromium by Playwright, and what it complained of."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

TIMEOUT = 120_000  # milliseconds; only keeps a broken test from hanging


@contextmanager
def open_page(width: int = 1280, height: int = 800, **context: Any) -> Iterator[tuple[Any, list[str]]]:
    """A blank page, and the list of its errors so far. Skips the test where there is no Chromium."""
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium on the PATH")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        page = browser.new_page(viewport={"width": width, "height": height}, **context)
        page.set_default_timeout(TIMEOUT)
        failed: list[str] = []
        page.on("pageerror", lambda error: failed.append(str(error)))
        page.on("console", lambda said: failed.append(said.text) if said.type == "error" else None)
        page.on("dialog", lambda dialog: failed.append(dialog.message))
        yield page, failed
        browser.close()
