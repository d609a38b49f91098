"""Measures the time from the command to the first batch, and the memory of a worker. Linux only.

    python -m benchmarks.speed.start [--data cifar10] [--data-dir DIR] [--rounds 5] [--seconds 60]
        [--max-macs N] [--json FILE]

The first line is `search --help`. The next are moments of `search launch` in an empty folder, with data that
were converted before: the study is stored, a worker has its first claim, and has stored its first epoch. That
is one of two batches and a validation, by a network of at most 2 million multiply-accumulates: the first
batch was trained before that. Median and spread of the rounds, of which one more goes before.

Memory is looked at five times a second in a search of some seconds by two workers, one epoch of 2,000 images
a trial: resident, and of that what is the worker's own; the rest (torch's code, the data set) is shared.
"""

import argparse
import json
import os
import platform
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

MOMENTS = {
    "search launch: study stored": "search_studies",
    "search launch: first claim": "search_claims",
    "search launch: first epoch of 2 batches": "search_epochs",
}
HELP = "search --help"
IMAGES = "256"  # two batches
SMALL = "2M"  # so that the validation, which comes before the epoch is stored, takes little
WORKERS = "2"
WAIT_SECONDS = 120


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "search", *words]


def environment() -> dict[str, str]:
    """The user's, without what changes a search, or keeps Python from keeping its bytecode."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith("SEARCH_")}
    ours.pop("PYTHONDONTWRITEBYTECODE", None)
    return ours | {"PYTHONPATH": str(Path.cwd())}


def launch(folder: str, given: argparse.Namespace, *words: str) -> subprocess.Popen[bytes]:
    data = ["--data", given.data, "--data-dir", str(given.data_dir)]
    fixed = ["--trials", "10000", "--workers", WORKERS, "--storage", f"sqlite:///{folder}/start.db"]
    return subprocess.Popen(
        command("launch", *fixed, *data, *words),
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def end(process: subprocess.Popen[bytes]) -> None:
    """As a user does: once to drain, once more to end now."""
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    process.wait(WAIT_SECONDS)


def one_start(given: argparse.Namespace) -> dict[str, float]:
    """Seconds from the command to each moment."""
    began = time.perf_counter()
    subprocess.run(command("--help"), env=environment(), stdout=subprocess.DEVNULL, check=True)
    seconds = {HELP: time.perf_counter() - began}
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        process = launch(folder, given, "--train-images", IMAGES, "--epochs", "1", "--max-macs", SMALL)
        try:
            for moment, table in MOMENTS.items():
                _await(lambda table=table: rows_of(folder, table) > 0, process)  # type: ignore[misc]
                seconds[moment] = time.perf_counter() - began
        finally:
            end(process)
    return seconds


def _await(reached: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + WAIT_SECONDS
    while not reached():
        if process.poll() is not None or time.monotonic() > give_up:
            raise RuntimeError("the search ended, or hangs, before its first epoch")
        time.sleep(0.01)


def rows_of(folder: str, table: str) -> int:
    with (
        suppress(sqlite3.OperationalError),  # not there yet
        closing(sqlite3.connect(f"file:{folder}/start.db?mode=ro", uri=True)) as connection,
    ):
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    return 0


def memory(given: argparse.Namespace) -> dict[str, Any]:
    """The most that any worker had, in MiB: resident, and its own. Trainings end within these seconds."""
    most = {"resident": 0.0, "own": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        process = launch(
            folder, given, "--train-images", "2000", "--epochs", "1", "--max-macs", str(given.max_macs)
        )
        stop = time.monotonic() + given.seconds
        try:
            while time.monotonic() < stop and process.poll() is None:
                for pid in children(process.pid):
                    for name, value in _memory(pid).items():
                        most[name] = max(most[name], value)
                time.sleep(0.2)
            trained = rows_of(folder, "search_candidates WHERE state IN ('completed', 'pruned')")
        finally:
            end(process)
    return most | {"seconds": given.seconds, "trained": trained}


def children(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _memory(pid: int) -> dict[str, float]:
    """In MiB; nothing for a process that has just ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return {}
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith("kB")}
    own = kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]
    return {"resident": kilobytes["Rss"] / 1024, "own": own / 1024}


def table(found: dict[str, Any]) -> str:
    lines = [f"{'':42}{'median':>9}{'spread':>16}"]
    for moment, seconds in found["seconds"].items():
        spread = f"{min(seconds):.2f}-{max(seconds):.2f}"
        lines.append(f"{moment:42}{statistics.median(seconds):>7.2f} s{spread:>16}")
    taken = found["memory"]
    lines.append("")
    lines.append(f"{'a worker: memory that is its own':42}{taken['own']:>6,.0f} MiB")
    lines.append(f"{'a worker: resident, shared parts included':42}{taken['resident']:>6,.0f} MiB")
    lines.append(
        f"{'trained meanwhile, by two workers':42}{taken['trained']:>6,} in {taken['seconds']:.0f} s"
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--data-dir", type=Path, default=Path.home() / ".cache/parsimony")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--max-macs", type=int, default=20_000_000)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    from trainer.data import dataset as datasets

    datasets.load(given.data, given.data_dir)  # converted once
    starts = [one_start(given) for _ in range(given.rounds + 1)][1:]
    found = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "max_macs": given.max_macs,
        "seconds": {moment: [one[moment] for one in starts] for moment in starts[0]},
        "memory": memory(given),
    }
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))


if __name__ == "__main__":
    main()
