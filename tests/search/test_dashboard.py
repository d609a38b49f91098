"""The study as people see it: optuna-dashboard, served by our command, in a real browser."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import start
from worker_samples import FakeTraining, make_config, make_context, make_study

from search.optuna_adapter import study as optuna_study
from search.worker import trial as worker_trial
from storage import leases
from storage.leases import Claim

TRIALS = 6


@pytest.fixture
def address(sqlite_url: str, tmp_path: Path) -> Iterator[str]:
    """A dashboard of a study with six trained networks."""
    config = make_config()
    engine, record = make_study(sqlite_url, config, TRIALS, name="shown")
    with optuna_study.open_study(sqlite_url, record.name, config) as opened:
        context = make_context(opened, engine, record, FakeTraining(), config, tmp_path)
        while isinstance(claim := leases.claim(engine, record.id, "one", 60.0), Claim):
            worker_trial.run(context, claim)
    engine.dispose()
    server = start("dashboard", "--port", 0, "--storage", sqlite_url, cwd=tmp_path)
    try:
        assert server.stderr is not None
        found = re.search(r"http://127\.0\.0\.1:\d+", server.stderr.readline())
        assert found, "the dashboard did not say where it is"
        yield found[0]
    finally:
        server.terminate()
        server.communicate()


@pytest.mark.browser
def test_the_dashboard_shows_every_trial_with_its_cost(address: str) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium on the PATH")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        page = browser.new_page()
        failed: list[str] = []
        page.on("pageerror", lambda error: failed.append(str(error)))
        page.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else None)
        page.goto(f"{address}/dashboard/", wait_until="domcontentloaded")
        page.get_by_text(re.compile(r"^\d+\. shown$")).click(timeout=120_000)
        # A plot's frame is drawn before its data: wait for the points.
        page.wait_for_function(
            "n => document.querySelectorAll('.scatterlayer .point').length >= n", arg=TRIALS, timeout=120_000
        )
        page.locator("a[href$='/trials']").first.click()
        page.get_by_text(f"Trial {TRIALS - 1}", exact=True).click(timeout=120_000)
        page.get_by_text(re.compile(r"^Trial 5 \(trial_id=")).wait_for()
        shown = page.locator("body").inner_text()
        browser.close()
    assert failed == []
    assert re.search(r"parameters \d+", shown)
    assert re.search(r"macs \d+", shown)
