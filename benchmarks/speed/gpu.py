"""Measures all that is claimed of a GPU: seven short parts, and seven others by their names.

    python -m benchmarks.speed.gpu --json FILE [--only PART ...] [--data noise] [--data-dir DIR] [--trials N]

The seven parts of gpu_parts.py take some four minutes, and are what is measured unless --only names others:
`step`, `cudnn`, `evaluation`, `captured`, `workers`, `waits`, `tests`. Parts of their own are `limits`,
`training` (the steady rate, from the second epoch on, and the cold first epoch apart), `batches`,
`optimizers` (SGD and Muon), `profile` (which kernels a step is), `norms` (by torch and by cuDNN), and
`search`. Each is a process of its own. The JSON is written after each part, and while a search runs, so that
whoever is cut off loses one part at most: the same command goes on with what is missing, and a search goes on
too. A part that fails is noted, and the others are measured; --only measures a part anew. All is of one GPU,
the first that this process may use; the JSON says how many there are. Images are made up
(`noise`: 50,000 that can be learned, of which a tenth are to validate), or for `training` and `search` a file
of `images` (N, H, W, C) uint8 and `labels` (N,) (FILE.npz), or what `--data` of `search launch` takes.
Nothing is measured without a GPU, but by --quick, which proves the path and says so.

Bars: 001-final at 40,000 images/s or 35% of the bfloat16 limit measured in the same run, the lower of the
two; 3 times the reference loop on it, 8 times on slim; 200 trials of 8 epochs of the whole CIFAR-10 training
set within 10 minutes on an H200 and 12 on another card, the GPU busy for over 80% of it, and over 150 TFLOP/s
reached in all of it: six operations for each multiply-accumulate and image trained on (forward, and twice as
much backward), augmentation and validation not counted.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.speed import made_up_pictures
from search import settings
from search.machine import devices, nvidia
from space.errors import DeviceError

FASTEST, SHARE, BUSY, FLOPS = 40_000, 0.35, 80.0, 150e12  # the bars
TIMES = {"slim": 8.0}  # the reference loop, by network
TIMES_OTHERS = 3.0
MINUTES, MINUTES_H200 = 12.0, 10.0  # of 200 trials
SHORT = ("step", "cudnn", "evaluation", "captured", "workers", "waits", "tests")
PARTS = (*SHORT, "limits", "training", "batches", "optimizers", "profile", "norms", "search")
ALIKE = 0.01  # of a loss, relative: a GPU adds up in another order each time
STUDY = "gpu-benchmark"
MOST_LINES = 60  # of a part that failed, on a machine that may be gone when they are read
READ_SECONDS = 1.0  # between two readings of the GPU
LOOK_SECONDS = 5.0  # between two notes of how far a search is
ROOT = Path(__file__).parents[2]


Reading = list[float | None]  # percent of the last second in which the GPU had work, and watts


class Utilisation:
    """What this process's GPU is at, asked of nvidia-smi each second; nothing where it does not tell."""

    def __init__(self) -> None:
        self.gpu = uuid()
        self.readings: list[Reading] = []
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> "Utilisation":
        if self.gpu:
            self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()

    def _read(self) -> None:
        asked = ["--query-gpu=utilization.gpu,power.draw", "--format=csv,noheader,nounits"]
        command = ["nvidia-smi", f"--id={self.gpu}", *asked]
        while not self.stopped.wait(READ_SECONDS):
            said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
            if found := reading(said):
                self.readings.append(found)


def uuid() -> str | None:
    """Of the first GPU that this process may use. None where it may be any, as CUDA counts the fastest first,
    or is a part of one, of which nvidia-smi does not tell."""
    names = settings.visible_gpus()
    found = nvidia.uuid_of(names[0], settings.orders_by_bus(), nvidia.known()) if names else None
    return None if found is None or found.startswith("MIG-") else found


def take_one_gpu() -> int | None:
    """Limits this process, and all that it starts, to the first GPU that it may use: the bars are of one.

    Before torch is loaded. Returns how many there were; None where nvidia-smi does not list them.
    """
    try:
        found = devices.gpus()
    except DeviceError:
        return None
    if found:
        settings.pin_to_gpu(found[0].environment)
    return len(found)


def reading(said: str) -> Reading | None:
    """The first line of nvidia-smi's answer: `87, 412.55`. A card that does not tell one says so in words."""

    def number(word: str) -> float | None:
        with suppress(ValueError):
            return float(word)
        return None

    words = said.partition("\n")[0].split(",")
    found = [number(word) for word in words]
    return found if len(found) == 2 and any(one is not None for one in found) else None


def mean(readings: Sequence[Reading], which: int) -> float | None:
    """Of one of the two, where it was told."""
    told = [one[which] for one in readings]
    known = [one for one in told if one is not None]
    return statistics.mean(known) if known else None


def flops_per_second(url: str, minutes: float) -> float | None:
    """What the trainings of a search came to, over all its time; None where none was."""
    from search.study.config import StudyConfig
    from storage import candidates, database, studies

    engine = database.connect(url, create=False)
    try:
        record = studies.find(engine, STUDY)
        rows = candidates.candidates(engine, record.id)
    finally:
        engine.dispose()
    images = StudyConfig.from_record(record.settings).data.train_images
    return sum(6.0 * row.macs * images * (row.epochs or 0) for row in rows) / (60 * minutes) or None


def benchmark(module: str, words: list[str]) -> dict[str, Any]:
    """What another benchmark measured, in a process of its own; `failed`: its last words, where it did, and
    `said`: the end of what it wrote."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        command = [sys.executable, "-m", f"benchmarks.speed.{module}", *words, "--json", str(out)]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, env=environment(), cwd=ROOT
        )
        if done.returncode or not out.exists():
            said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            return {"failed": said[-1], "said": said[-MOST_LINES:]}
        found: dict[str, Any] = json.loads(out.read_text())
    return found


def environment() -> dict[str, str]:
    """This process's own, without options of a search, and with this tree before what PYTHONPATH names."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("SEARCH_")}
    paths = [str(ROOT), *filter(None, clean.get("PYTHONPATH", "").split(os.pathsep))]
    return clean | {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}


def search(
    given: argparse.Namespace,
    data: list[str],
    before: dict[str, Any] | None,
    note: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """A whole search, from the command to its end, on from where an earlier call was cut off.

    `note` hears every few seconds what it came to so far: minutes of all calls and readings of the GPU.
    """
    folder: Path = given.folder / "search"
    if before is None:
        shutil.rmtree(folder, ignore_errors=True)
    elif before["done"]:
        return before
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "search", "launch", "--trials", str(given.trials), *data]
    url = f"sqlite:///{folder}/search.db"
    command += ["--study", STUDY, "--storage", url]
    command += ["--epochs", str(given.epochs)]
    command += ["--max-macs", str(given.max_macs)] if given.max_macs else []
    command += ["--train-images", str(given.images)] if given.quick else []
    minutes, readings = (before["minutes"], before["readings"]) if before else (0.0, [])
    begun = time.monotonic()

    def so_far(done: bool) -> dict[str, Any]:
        gone, told = minutes + (time.monotonic() - begun) / 60, [*readings, *used.readings]
        found = {"minutes": gone, "busy": mean(told, 0), "watts": mean(told, 1), "trials": given.trials}
        return {**found, "readings": told, "done": done}

    log = folder / "launch.log"
    with Utilisation() as used, log.open("w") as told:
        launch = subprocess.Popen(command, cwd=folder, env=environment(), stdout=told, stderr=told)
        try:
            while True:
                try:
                    code = launch.wait(LOOK_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    note(so_far(done=False))
        finally:
            if launch.poll() is None:
                launch.terminate()
                launch.wait()
    if code:
        raise SystemExit((log.read_text(errors="replace").strip().splitlines() or ["the search failed"])[-1])
    found = so_far(done=True)
    return found | {"flops": flops_per_second(url, found["minutes"])}


def verdicts(found: dict[str, Any], network: str) -> list[str]:
    """Each bar of the parts that are there and whether it is met; on a CPU none is judged."""
    lines: list[tuple[str, bool]] = []
    whole_parts = {name for name in PARTS if name in found and "failed" not in found[name]}
    summary = found["training"]["summary"] if "training" in whole_parts else []
    rates = {row["name"]: row for row in summary if row["network"] == network}
    share = None
    if "limits" in whole_parts:
        share = next(r["share"] for r in found["limits"]["rows"] if r["what"] == f"{network} bfloat16")
    if rates:
        ours, usual = rates["ours"], rates["reference, 2 threads"]
        fast, cold = (1_000 / (ours[key] or ours["first_ms"]) for key in ("steady_ms", "first_ms"))
        of_limit = "" if share is None else f", {100 * share:.0f}% of the limit"
        lines += [
            (
                f"{network}: {fast:,.0f} images/s ({cold:,.0f} in the first epoch){of_limit}",
                fast >= FASTEST or (share or 0.0) >= SHARE,
            ),
            (
                f"{usual['steady_ms_ratio'] or usual['first_ms_ratio']:.1f} times the reference loop"
                f" ({usual['first_ms_ratio']:.1f} in the first epoch)",
                (usual["steady_ms_ratio"] or 0.0) >= TIMES.get(network, TIMES_OTHERS),
            ),
        ]
    elif share is not None:
        lines.append((f"{network}: {100 * share:.0f}% of the limit", share >= SHARE))
    if (whole := found.get("search")) and "search" in whole_parts:
        busy = "unknown" if whole["busy"] is None else f"{whole['busy']:.0f}%"
        most = MINUTES_H200 if "H200" in found["device"] else MINUTES
        so_far = "" if whole["done"] else ", not done: the same command goes on"
        lines += [
            (
                f"{whole['trials']} trials in {whole['minutes']:.1f} minutes{so_far}",
                whole["done"]
                and whole["minutes"] <= (MINUTES_H200 if "H200" in found["device"] else MINUTES),
            ),
            (f"GPU busy: {busy}", (whole["busy"] or 0) >= BUSY),
        ]
        if reached := whole.get("flops"):
            power = f", {whole['watts']:.0f} W on average" if whole.get("watts") else ""
            lines.append((f"{reached / 1e12:.1f} TFLOP/s over the search{power}", reached >= FLOPS))
    if "captured" in whole_parts:
        difference = max(row["difference"] for row in found["captured"]["rows"])
        lines.append(
            (f"losses of recorded steps differ from plain ones by {difference:.1e}", difference <= ALIKE)
        )
    if "waits" in whole_parts:
        most = max(row["waits"] for row in found["waits"]["rows"])
        lines.append((f"an epoch waits for the GPU {most} times", most <= 1))
    if "tests" in whole_parts:
        part = found["tests"]
        lines.append((f"tests of a GPU: {part['tests']}", part["tests_passed"]))
        lines.append((f"a search: {part['search']}", part["search_exit_code"] == 0))
    lines += [
        (f"{name} failed: {found[name]['failed']}", False)
        for name in PARTS
        if "failed" in found.get(name, {})
    ]
    if found["device"] == "cpu":
        return [text for text, _ in lines] + ["on the CPU: no bar is judged, nothing is said of a GPU"]
    return [f"{text}: {'met' if met else 'MISSED'}" for text, met in lines]


class Results:
    """The JSON file: what is measured, whole after every part."""

    def __init__(self, path: Path | None, about: dict[str, Any]) -> None:
        self.path, self.found = path, about
        if path and path.exists():
            there = json.loads(path.read_text())
            if all(there.get(key) == value for key, value in about.items()):
                self.found = there

    def add(self, part: str, result: dict[str, Any], network: str) -> None:
        self.found[part] = result
        self.found["verdicts"] = verdicts(self.found, network)
        if self.path:
            new = self.path.with_name(self.path.name + ".new")
            new.write_text(json.dumps(self.found, indent=1) + "\n")
            new.replace(self.path)


def noted_search(given: argparse.Namespace, data: list[str], results: Results) -> dict[str, Any]:
    """As search(), from where the results say that it is; `failed` where it does."""
    there = {key: value for key, value in results.found.get("search", {}).items() if key != "failed"}
    try:
        return search(given, data, there or None, lambda so_far: results.add("search", so_far, given.network))
    except SystemExit as error:
        return results.found.get("search", {}) | {"failed": str(error)}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="+", choices=PARTS, help="these, anew; else the short ones, once")
    parser.add_argument("--data", default="noise")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("build/gpu"), help="of images and the search")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--network", default="001-final")
    parser.add_argument("--images", type=int, default=45_000)
    parser.add_argument("--max-macs", type=int)
    parser.add_argument("--quick", action="store_true", help="tiny, on a CPU too: to see that it runs")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    given.folder = given.folder.resolve()
    if given.quick:
        given.trials, given.epochs, given.images = 2, 1, 256
        given.network, given.max_macs = "slim", 1_000_000
    return given


def data_words(given: argparse.Namespace) -> list[str]:
    """`--data` and `--data-dir` of the other programs, whatever folder they run in."""
    spec = given.data
    if spec == "noise" or spec.endswith(".npz"):
        spec = made_up_pictures.folder_of(spec, given.folder, 500 if given.quick else 50_000)
    elif spec.startswith("folder:"):
        spec = f"folder:{Path(spec.removeprefix('folder:')).expanduser().resolve()}"
    return ["--data", spec, "--data-dir", str((given.data_dir or given.folder / "data").resolve())]


def main() -> None:
    given = arguments()
    gpus = take_one_gpu()
    import torch

    if not torch.cuda.is_available() and not given.quick:
        sys.exit("torch finds no GPU, and on a CPU this would take hours; --quick shows that it runs")
    about = {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "gpus": gpus,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "setting": {
            "data": given.data,
            "trials": given.trials,
            "epochs": given.epochs,
            "images": given.images,
        },
    }
    results = Results(given.json, about)
    wanted = given.only or [part for part in SHORT if "failed" in results.found.get(part, {"failed": ""})]
    data = data_words(given) if {"training", "search"} & set(wanted) else []
    tiny = ["--size", "128", "--batches", "1", "--rounds", "1"] if given.quick else ["--batches", "100"]
    sizes = ["--images", str(given.images), "--seeds", "1" if given.quick else "3", "--epochs", "2"]
    quick = ["--quick"] if given.quick else []
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        **{
            name: partial(benchmark, "gpu_parts", [name, *quick])
            for name in (*SHORT, "batches", "optimizers", "profile", "norms")
        },
        "limits": lambda: benchmark("limits", ["--networks", given.network, *tiny]),
        "training": lambda: benchmark("training", [*data, "--networks", given.network, *sizes]),
        "search": lambda: noted_search(given, data, results),
    }
    for part in wanted:
        results.add(part, parts[part](), given.network)
        print(f"{part}: {results.found[part].get('failed', 'measured')}", flush=True)
    print("\n".join([results.found["device"], *results.found.get("verdicts", [])]))
    if any("failed" in results.found[part] for part in wanted):
        sys.exit(1)


if __name__ == "__main__":
    main()
