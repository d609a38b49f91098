"""Measures all that is claimed of a GPU: its limit, throughput, and a search of 200 trials.

    python -m benchmarks.speed.gpu [--data cifar10] [--data-dir DIR] [--trials 200] [--epochs 8] [--json FILE]

Bars, for one H200: 001-final at 40,000 images/s or 35% of the bfloat16 limit measured in the same run, the
lower of the two; 8 times the reference loop; 200 trials of 8 epochs of the whole CIFAR-10 training set within
15 minutes, the GPU busy for over 80% of it. Without a GPU it runs on the CPU, which proves the path and
nothing else, and says so.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

FASTEST, SHARE, TIMES, MINUTES, BUSY = 40_000, 0.35, 8.0, 15.0, 80.0  # the bars


class Utilisation:
    """Percent of the time in which the GPU had work, asked of nvidia-smi each second; None without one."""

    def __init__(self) -> None:
        self.readings: list[float] = []
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> "Utilisation":
        if shutil.which("nvidia-smi"):
            self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()

    def _read(self) -> None:
        command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        while not self.stopped.wait(1.0):
            said = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
            self.readings += [float(word) for word in said[:1] if word.isdigit()]

    @property
    def percent(self) -> float | None:
        return statistics.mean(self.readings) if self.readings else None


def benchmark(module: str, words: list[str]) -> dict[str, Any]:
    """What another benchmark measured, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        command = [sys.executable, "-m", f"benchmarks.speed.{module}", *words, "--json", str(out)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found: dict[str, Any] = json.loads(out.read_text())
    return found


def search(given: argparse.Namespace, data: list[str]) -> dict[str, Any]:
    """A whole search, from the command to its end."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "search", "launch", "--trials", str(given.trials), *data]
        command += ["--epochs", str(given.epochs), "--storage", f"sqlite:///{folder}/search.db"]
        command += ["--max-macs", str(given.max_macs)] if given.max_macs else []
        command += ["--train-images", str(given.images)] if given.quick else []
        begun = time.monotonic()
        with Utilisation() as used:
            done = subprocess.run(command, cwd=folder, env=_environment(), check=False, capture_output=True)
        if done.returncode:
            raise SystemExit(done.stderr.decode(errors="replace").strip().splitlines()[-1])
    return {"minutes": (time.monotonic() - begun) / 60, "busy": used.percent, "trials": given.trials}


def _environment() -> dict[str, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("SEARCH_")}
    return clean | {"PYTHONPATH": str(Path(__file__).parents[2])}


def verdicts(found: dict[str, Any], network: str) -> list[str]:
    """Each bar and whether it is met; on a CPU none is judged."""
    limit = {row["what"]: row for row in found["limits"]["rows"]}
    times = next(
        row["wall_ms_ratio"] for row in found["training"]["summary"] if row["name"] == "reference, 2 threads"
    )
    ours = next(row["wall_ms"] for row in found["training"]["summary"] if row["name"] == "ours")
    share, fast = limit[f"{network} bfloat16"]["share"], 1_000 / ours
    whole = found["search"]
    busy = "unknown" if whole["busy"] is None else f"{whole['busy']:.0f}%"
    lines = [
        (
            f"{network}: {fast:,.0f} images/s, {100 * share:.0f}% of the limit",
            fast >= FASTEST or share >= SHARE,
        ),
        (f"{times:.1f} times the reference loop", times >= TIMES),
        (f"{whole['trials']} trials in {whole['minutes']:.1f} minutes", whole["minutes"] <= MINUTES),
        (f"GPU busy: {busy}", (whole["busy"] or 0) >= BUSY),
    ]
    if found["device"] == "cpu":
        return [text for text, _ in lines] + ["on the CPU: no bar is judged, nothing is said of a GPU"]
    return [f"{text}: {'met' if met else 'MISSED'}" for text, met in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--data-dir")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--network", default="001-final")
    parser.add_argument("--images", type=int, default=45_000)
    parser.add_argument("--max-macs", type=int)
    parser.add_argument("--quick", action="store_true", help="tiny: to see that it runs")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.quick:
        given.trials, given.epochs, given.images = 2, 1, 256
        given.network, given.max_macs = "slim", 1_000_000
    import torch

    data = ["--data", given.data, *(["--data-dir", given.data_dir] if given.data_dir else [])]
    tiny = ["--size", "128", "--batches", "1", "--rounds", "1"] if given.quick else ["--batches", "100"]
    sizes = ["--images", str(given.images), "--seeds", "1" if given.quick else "3"]
    found = {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "torch": torch.__version__,
        "limits": benchmark("limits", ["--networks", given.network, *tiny]),
        "training": benchmark("training", [*data, "--networks", given.network, *sizes]),
        "search": search(given, data),
    }
    found["verdicts"] = verdicts(found, given.network)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")
    print("\n".join([found["device"], *found["verdicts"]]))


if __name__ == "__main__":
    main()
