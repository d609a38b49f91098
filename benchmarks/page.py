"""Measures how long a browser takes to open a page of ours: a report, a comparison, or one of made-up trials.

    python -m benchmarks.page report.html [more.html ...] [--trials 10000] [--repeat 3] [--width 1280]

Opens each file anew in Chromium (by Playwright, on the PATH) and prints, as medians: seconds from the request
until its first text is painted, until what is in view is drawn, and until every plot is; and the processor
time of the page's process by the last two. Wall time depends on whatever else the machine does, whose load is
printed beside it; processor time much less. --trials makes a report of so many trials, by the samples of the
tests.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

# What page.js writes to the root of the page, and when it did; seconds since the request.
WATCH = """
window.reached = {};
new PerformanceObserver(list => { window.reached.text ??= list.getEntries()[0].startTime / 1000; })
  .observe({type: "paint", buffered: true});
new MutationObserver(() => {
  for (const mark of ["opened", "drawn"])
    if (document.documentElement?.dataset[mark]) window.reached[mark] ??= performance.now() / 1000;
}).observe(document, {attributes: true, subtree: true, attributeFilter: ["data-opened", "data-drawn"]});
"""
STEPS = {"text": "first text", "opened": "in view drawn", "drawn": "all drawn"}


def made_up(trials: int, folder: Path) -> Path:
    """A report of so many trials, whose networks and accuracies are made up."""
    sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
    from report_samples import mixture, report_data

    from search.report import page

    data = report_data(mixture(trials))
    file = folder / f"{trials}-trials.html"
    file.write_text(page.page(data.record, data.config, data.rows, data.epochs), encoding="utf-8")
    return file


def renderer_seconds(session: Any) -> float:
    """Processor time of the processes that show pages, so far."""
    found = session.send("SystemInfo.getProcessInfo")["processInfo"]
    return float(sum(one["cpuTime"] for one in found if one["type"] == "renderer"))


def opened(playwright: Any, file: Path, width: int) -> dict[str, tuple[float, float]]:
    """Wall and processor seconds of each step, in a browser of its own."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("no Chromium on the PATH")
    browser = playwright.chromium.launch(
        executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"]
    )
    session = browser.new_browser_cdp_session()
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.set_default_timeout(600_000)
    page.add_init_script(WATCH)
    before, spent = renderer_seconds(session), {}
    page.goto(file.resolve().as_uri(), wait_until="commit")
    for step in STEPS:
        page.wait_for_function(f"window.reached?.{step} || (window.reached?.drawn && '{step}' === 'opened')")
        spent[step] = renderer_seconds(session) - before
    reached = page.evaluate("window.reached")
    browser.close()
    return {step: (float(reached.get(step, reached["drawn"])), spent[step]) for step in STEPS}


def report(file: Path, runs: list[dict[str, tuple[float, float]]]) -> str:
    """A row of the table."""
    wall = {step: f"{statistics.median(run[step][0] for run in runs):.1f}" for step in STEPS}
    # The first text is there long before the page's process can be asked what it has spent.
    spent = {step: f"{statistics.median(run[step][1] for run in runs):.1f}" for step in list(STEPS)[1:]}
    cells = [wall["text"], *(f"{wall[step]} | {spent[step]}" for step in spent)]
    return f"| {file.name} | {file.stat().st_size / 1e6:.1f} MB | {' | '.join(cells)} |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--trials", type=int)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--width", type=int, default=1280)
    given = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        files = [*given.files, *([made_up(given.trials, Path(folder))] if given.trials else [])]
        heads = [f"{name}, s" for name in STEPS.values()]
        heads = [heads[0], *(part for name in heads[1:] for part in (name, "processor, s"))]
        print(f"| page | size | {' | '.join(heads)} |\n{'| --- ' * (2 + len(heads))}|")
        for file in files:
            runs = [opened(playwright, file, given.width) for _ in range(given.repeat)]
            print(report(file, runs), flush=True)
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"\nmedians of {given.repeat}; {os.cpu_count()} cores, load {load} (1, 5 and 15 minutes)")


if __name__ == "__main__":
    main()
