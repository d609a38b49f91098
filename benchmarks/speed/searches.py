"""Counts candidates trained in equal wall time: `search launch` against a plain Optuna script.

    python -m benchmarks.speed.searches --data folder:CIFAR10 [--seconds 300] [--rounds 3] [--processes 2]
                                  [--train-images N] [--epochs 8] [--max-macs N] [--json FILE]

In turns, ours and then theirs, each from its command to the same number of seconds later, with start-up and
what is then still under way not counted for either. Same space, budget, data, epochs, batch size, rate,
pruner and number of processes (benchmarks/speed/plain.py). Best is the highest validation accuracy of a
candidate that was trained to the end.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.speed import plain


def ours(given: argparse.Namespace, place: Path, seed: int) -> dict[str, Any]:
    from search.optuna_adapter import study as optuna_study
    from storage import candidates, database, studies

    url = f"sqlite:///{place}/search.db"
    command = [sys.executable, "-m", "search", "launch", "--trials", "100000", "--study", "bench"]
    command += ["--storage", url, "--timeout", f"{given.seconds:.0f}s", "--workers", str(given.processes)]
    began = _run([*command, *_common(given, seed)], given.seconds)
    optuna_study.quiet()
    engine = database.connect(url, create=False)
    rows = candidates.candidates(engine, studies.find(engine, "bench").id)
    engine.dispose()
    found = [
        {
            "ended": row.finished_at.timestamp(),
            "accuracy": row.accuracy if row.state == "completed" else None,
        }
        for row in rows
        if row.state in ("completed", "pruned") and row.finished_at
    ]
    return _counted("ours", found, began, given.seconds)


def theirs(given: argparse.Namespace, place: Path, seed: int) -> dict[str, Any]:
    base = [sys.executable, "-m", "benchmarks.speed.plain", str(place / "plain.db")]
    base += ["--seconds", str(given.seconds), "--processes", str(given.processes)]
    began = _run([*base, *_common(given, seed)], given.seconds)
    return _counted("plain Optuna", plain.results(f"sqlite:///{place}/plain.db"), began, given.seconds)


def _common(given: argparse.Namespace, seed: int) -> list[str]:
    words = ["--data", given.data, "--data-dir", str(given.data_dir), "--epochs", str(given.epochs)]
    words += ["--max-params", str(given.max_params), "--seed", str(seed)]
    words += ["--max-macs", str(given.max_macs)] if given.max_macs else []
    return [*words, *(["--train-images", str(given.train_images)] if given.train_images else [])]


def _run(command: list[str], seconds: float) -> float:
    """Returns when it began. Its own limit ends it; this one only keeps a broken run from hanging."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SEARCH_")}
    began = time.time()
    subprocess.run(
        command, env=environment | {"OMP_NUM_THREADS": "1"}, check=False, timeout=seconds + 300,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return began


def _counted(name: str, found: list[dict[str, Any]], began: float, seconds: float) -> dict[str, Any]:
    inside = [one for one in found if one["ended"] <= began + seconds]
    scores = [one["accuracy"] for one in inside if one["accuracy"] is not None]
    return {
        "name": name,
        "trained": len(inside),
        "to_the_end": len(scores),
        "per_minute": 60 * len(inside) / seconds,
        "best": max(scores, default=None),
        "first_result": min((one["ended"] - began for one in inside), default=None),
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Ratios round by round: candidates a minute, and points of the best accuracy."""
    pairs = list(zip(rows[::2], rows[1::2], strict=True))
    ratios = sorted(a["per_minute"] / b["per_minute"] for a, b in pairs if b["trained"])
    points = [100 * (a["best"] - b["best"]) for a, b in pairs if a["best"] and b["best"]]
    return {
        "ratio": statistics.median(ratios) if ratios else None,
        "spread": [ratios[0], ratios[-1]] if ratios else None,
        "points": statistics.median(points) if points else None,
    }


def table(rows: list[dict[str, Any]], found: dict[str, Any]) -> str:
    lines = [f"{'':14}{'candidates':>11}{'to the end':>11}{'a minute':>10}{'best':>8}{'first after':>13}"]
    for row in rows:
        best = f"{100 * row['best']:.1f}%" if row["best"] else "-"
        first = f"{row['first_result']:.1f} s" if row["first_result"] else "-"
        lines.append(
            f"{row['name']:14}{row['trained']:>11}{row['to_the_end']:>11}{row['per_minute']:>10.1f}{best:>8}{first:>13}"
        )
    ratio, points = found["ratio"], found["points"]
    lines.append(
        f"ours: {ratio:.2f} times the candidates a minute" if ratio else "no ratio: nothing was trained"
    )
    lines.append(f"ours: {points:+.1f} points at equal wall time" if points is not None else "")
    return "\n".join(lines).rstrip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=Path)
    plain.arguments(parser)
    given = parser.parse_args()
    from trainer.data import dataset as datasets

    datasets.load(given.data, given.data_dir)  # converted once, before the clock runs
    rows = []
    for turn in range(given.rounds):
        for side in (ours, theirs):
            with tempfile.TemporaryDirectory() as folder:
                rows.append(side(given, Path(folder), given.seed + turn))
    found = summary(rows)
    document = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "data": given.data.split(":")[0],
        "train_images": given.train_images,
        "epochs": given.epochs,
        "max_macs": given.max_macs,
        "seconds": given.seconds,
        "processes": given.processes,
        "rows": rows,
        "summary": found,
    }
    if given.json:
        given.json.write_text(json.dumps(document, indent=1) + "\n")
    print(table(rows, found))


if __name__ == "__main__":
    main()
