"""Puts the figures of `make faults` into docs/reliability.md: python docs/reliability.py build/faults.jsonl.

One line of the file is what one fault did, on one database (tests/faults.py, Figures). Only what lies between
the two marks of the page is replaced.
"""

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent / "reliability.md"
BEGIN, END = "<!-- figures: written by make faults -->", "<!-- end of figures -->"
HEAD = """\
| Fault | Database | Injected | Asked / trained | Made again | Lost | Counted twice | Longest recovery |
| --- | --- | --- | --- | --- | --- | --- | --- |"""


def table(rows: list[dict[str, Any]]) -> str:
    """One row a fault, and the sums."""
    total = {key: sum(row[key] for row in rows) for key in ("injected", "asked", "trained", "lost", "twice")}
    again = sum(row["interrupted"] for row in rows)
    longest = max((row["recovery"] for row in rows if row["recovery"] is not None), default=None)
    lines = [HEAD, *(_line(row) for row in rows)]
    lines.append(
        f"| **all** | | {total['injected']} | {total['asked']} / {total['trained']} | {again}"
        f" | **{total['lost']}** | **{total['twice']}** | {_seconds(longest)} |"
    )
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    return (
        f"| {row['fault']} | {row['database']} | {row['injected']} | {row['asked']} / {row['trained']}"
        f" | {row['interrupted']} | {row['lost']} | {row['twice']} | {_seconds(row['recovery'])} |"
    )


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"


def conditions() -> str:
    """What the figures were measured on."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 30
    return (
        f"`make faults` on {len(os.sched_getaffinity(0))} CPU cores ({_processor()}), {memory} GB, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}, "
        f"{_postgres()}, Optuna {version('optuna')}, psycopg {version('psycopg')}."
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _postgres() -> str:
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))
    import postgres_server

    program = postgres_server.find_programs() / "initdb"
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return "PostgreSQL " + said.split()[2]


def main(source: Path) -> None:
    """Replaces the figures of the page."""
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(f"{before}{BEGIN}\n{conditions()}\n\n{table(rows)}\n{END}{after}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
