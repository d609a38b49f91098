"""Runs the benchmarks of speed one after another and writes the tables of docs/speed.md.

    python -m benchmarks.speed [--data cifar10] [--data-dir DIR] [--only training ...] [--quick]
    python -m benchmarks.speed --document [--check]

Without --only all are run but `brief` and `records`, which take an hour and half an hour of their own.
Results go to benchmarks/results/speed.json, each with the machine and the moment; what is not run anew stays.
PostgreSQL is started with its usual safety on (fsync), and removed afterwards.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import brief
from benchmarks.speed import coordination, judging, limits, records, scale, searches, start, training
from benchmarks.speed.server import server

RESULTS, PAGE = Path("benchmarks/results/speed.json"), Path("docs/speed.md")
NOT_RUN = "Not measured yet: `make bench`."

TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "training": lambda found: training.table(found["summary"]),
    "searches": lambda found: searches.table(found["rows"], found["summary"]),
    "coordination": coordination.table,
    "coordination, PostgreSQL": coordination.table,
    "scale": scale.table,
    "judging": judging.table,
    "limits": lambda found: limits.table(found["rows"]),
    "brief": lambda found: brief.table(found["summary"]),
    "start": start.table,
    "records": lambda found: records.table(found["summary"]),
}
LONG = ("brief", "records")
QUICK = {
    "training": ["--networks", "slim", "--images", "256", "--seeds", "1"],
    "searches": ["--seconds", "30", "--rounds", "1", "--epochs", "2", "--max-macs", "2000000"],
    "coordination": ["--trials", "20", "--workers", "1", "--rounds", "3"],
    "coordination, PostgreSQL": ["--trials", "20", "--workers", "2", "--rounds", "3"],
    "scale": ["--workers", "2", "--seconds", "1", "--asks", "20"],
    "judging": ["--networks", "5", "--rounds", "2"],
    "limits": ["--networks", "slim", "--size", "256", "--batches", "1", "--rounds", "1"],
    "records": ["--networks", "2", "--seeds", "1", "--epochs", "1", "--train-images", "300"],
    "start": ["--rounds", "1", "--seconds", "15", "--max-macs", "2000000"],
    "brief": ["--networks", "4", "--epochs", "2", "--train-images", "300", "--max-macs", "3000000"],
}
# As much as two cores do in some minutes. Networks of at most 20 million multiply-accumulates, 5,000 images,
# 4 epochs: many candidates.
USUAL = {
    "training": ["--images", "1536"],
    "searches": [
        "--train-images",
        "5000",
        "--epochs",
        "4",
        "--max-macs",
        "20000000",
        "--seconds",
        "200",
        "--rounds",
        "2",
    ],
    "brief": [],
    "start": [],
    "records": ["--networks", "5", "--train-images", "2500", "--max-macs", "6000000"],
}


def flags(name: str, given: argparse.Namespace) -> list[str]:
    if name not in USUAL:
        return QUICK[name] if given.quick else []
    data = ["--data", given.data, *(["--data-dir", given.data_dir] if given.data_dir else [])]
    return [*data, *(QUICK[name] if given.quick else USUAL[name])]


def run(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """One benchmark in a process of its own; its table goes to the terminal."""
    module = name.split(",")[0]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        full = "benchmarks.brief" if module == "brief" else f"benchmarks.speed.{module}"
        command = [sys.executable, "-m", full, *flags(name, given)]
        command += ["--json"] if module == "judging" else ["--json", str(out)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        if "PostgreSQL" in name or name == "scale":
            with server() as url:
                done = _finish([*command, "--storage", url], environment)
        else:
            done = _finish(command, environment)
        found: dict[str, Any] = json.loads(done if module == "judging" else out.read_text())
    moment = datetime.now(UTC).strftime("%Y-%m-%d")
    versions = {"python": platform.python_version(), "machine": machine(), "cores": os.cpu_count()}
    return versions | {"day": moment} | found | {"machine": machine()}


def _finish(command: list[str], environment: dict[str, str]) -> str:
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def machine() -> str:
    """What the processor calls itself, else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def rendered(page: str, results: dict[str, Any]) -> str:
    """The page with every block between `<!-- NAME -->` and `<!-- end -->` written from the results."""

    def block(match: re.Match[str]) -> str:
        name = match[1]
        found = results.get(name)
        if not found:
            return f"<!-- {name} -->\n{NOT_RUN}\n<!-- end -->"
        conditions = f"{found['machine']}, {found['cores']} cores, Python {found['python']}, {found['day']}"
        return f"<!-- {name} -->\n```\n{TABLES[name](found)}\n```\n\n{conditions}.\n<!-- end -->"

    names = "|".join(map(re.escape, TABLES))
    return re.sub(rf"<!-- ({names}) -->\n.*?<!-- end -->", block, page, flags=re.DOTALL)


def read() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--data-dir")
    parser.add_argument(
        "--only", nargs="+", choices=list(TABLES), default=[name for name in TABLES if name not in LONG]
    )
    parser.add_argument("--quick", action="store_true", help="a minute or two, nothing written")
    parser.add_argument("--document", action="store_true", help="only write the page from the results")
    parser.add_argument("--check", action="store_true", help="with --document: fail if the page differs")
    given = parser.parse_args()
    results = read()
    for name in () if given.document else given.only:
        print(f"\n{name}", flush=True)
        found = run(name, given)
        print(TABLES[name](found), flush=True)
        if not given.quick:
            results[name] = found
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    if given.quick:
        return
    page = rendered(PAGE.read_text(), results)
    if given.check:
        sys.exit(None if page == PAGE.read_text() else f"{PAGE} is not what {RESULTS} says")
    PAGE.write_text(page)


if __name__ == "__main__":
    main()
