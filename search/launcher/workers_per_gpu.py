"""How many workers share a GPU, measured before the first trial with networks of the search itself. Which GPU
a worker has is decided elsewhere: search/machine/devices.py, search/machine/gpu_choice.py.

A probe is a process that trains on noise (trainer/throughput.py) and says how fast it went and how much
memory it took; main() is its whole life, and a line on stdin its task. Called by
search/commands/launch_session.py; writes no file and no row. First one, then two, four, eight at a time:
more workers are taken while together they train clearly more, and while their memory and a core for each are
there. Where an MPS daemon runs, probes and workers use it, as all of CUDA does.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

from search import settings
from search.machine import nvidia
from search.machine.devices import Slot, cores
from search.machine.processes import die_with_parent, python_module
from search.study.config import StudyConfig
from space import cost, sampling
from space.architecture import Architecture
from space.random_suggest import RandomSuggest
from trainer.recipe.document import Recipe

MOST = 8  # workers a GPU that are tried
GAIN = 1.1  # times the throughput of half as many that more workers must reach to be taken
SHARE = 0.9  # of the memory that is free: larger networks than those of the probes will come
SECONDS = 4.0  # that probes train side by side
GIVE_UP_SECONDS = 120.0  # then probes hang
DRAWS = 60  # networks of the space, of which three are trained
QUANTILES = (1 / 6, 1 / 2, 5 / 6)  # of the multiply-accumulates of those drawn: the middles of three thirds
INDEX_BYTES = 16  # of an image: its label, and its place among those to train or to validate on
WORTH_TRIALS = 10  # a GPU: with fewer, measuring would take longer than it saves


@dataclass(frozen=True)
class Probe:
    """Images a second of one process, and bytes of memory at most."""

    images_per_second: float
    memory: int


@dataclass(frozen=True)
class WorkersPerGpu:
    """Workers a device; images a second of so many together, by their number; why not more."""

    workers: int
    together: dict[int, float]
    reason: str

    def __str__(self) -> str:
        times = self.together.get(self.workers, 0.0) / self.together[1] if self.together.get(1) else 1.0
        gain = f", {times:.1f} times the throughput of one" if self.workers > 1 else ""
        return f"{self.workers} a GPU{gain}; {self.reason}"


class ProbeError(Exception):
    """Probes could not train side by side; the message is why, in a line, where one of them said it."""


Measure = Callable[[int], Sequence[Probe]]  # so many at a time; raises ProbeError where one of them could not


def decide(
    measure: Measure, memory: int | None, most: int = MOST, bound: str = "", kept: int = 0
) -> WorkersPerGpu:
    """How many workers a device should have. memory is what is free of it in bytes, None if nobody knows.

    bound: why no more than `most` are tried. kept: bytes that a worker has there beside what a probe takes.
    """
    best, together, count = 1, dict[int, float](), 1
    while count <= most:
        try:
            probes = measure(count)
        except ProbeError as error:
            why = f": {error}" if str(error) else ""
            return WorkersPerGpu(best, together, f"{count} at a time did not run{why}")
        together[count] = sum(probe.images_per_second for probe in probes)
        if count > 1 and together[count] < GAIN * together[best]:
            return WorkersPerGpu(best, together, f"{count} train no more in all")
        best = count
        need = 2 * count * (kept + max(probe.memory for probe in probes))
        if memory is not None and need > SHARE * memory and 2 * count <= most:
            short = f"{2 * count} would need {need / 2**30:.0f} of {memory / 2**30:.0f} GiB"
            return WorkersPerGpu(best, together, short)
        count *= 2
    return WorkersPerGpu(best, together, bound or f"{most} is the most that is tried")


def most_by_cores(gpus: int, there: int) -> tuple[int, str]:
    """How many workers a GPU are tried at most with so many cores, and why: each keeps one busy."""
    most = max(1, min(MOST, there // max(1, gpus)))
    shared = "one GPU" if gpus == 1 else f"{gpus} GPUs"
    verb = "is one core" if there == 1 else f"are {there} cores"
    return most, f"there {verb} for {shared}" if most < MOST else ""


def networks(config: StudyConfig) -> list[Architecture]:
    """Of the space, by multiply-accumulates: the middle ones of the smaller, middle and larger third."""
    drawn = [
        sampling.propose(config.space, config.budget, config.task, RandomSuggest(seed))
        for seed in range(DRAWS)
    ]
    ranked = sorted(drawn, key=lambda network: cost.total(network).macs)
    return [ranked[int(share * len(ranked))] for share in QUANTILES]


def measured(
    config: StudyConfig,
    device: Mapping[str, str],
    free: int | None,
    seconds: float = SECONDS,
    most: int = MOST,
    bound: str = "",
) -> WorkersPerGpu:
    """Probes of the study's networks on a device, which its environment pins; `bound` is of decide()."""
    task = {
        "networks": [network.document() for network in networks(config)],
        "recipe": config.recipe.model_dump(mode="json"),
        "seconds": seconds,
    }
    return decide(lambda count: side_by_side(task, device, count), free, most, bound, images_bytes(config))


def images_bytes(config: StudyConfig) -> int:
    """Bytes of the images that a worker keeps on its GPU, where a probe has a batch of noise: all of the data
    set, however few are trained on (trainer/data/batches.py, on_device)."""
    data, task = config.data, config.task
    images = data.all_train_images + data.validation_images
    return images * (task.image_size**2 * task.channels + INDEX_BYTES)


def side_by_side(task: dict[str, Any], device: Mapping[str, str], count: int) -> list[Probe]:
    """So many probes at a time, which start together once all are warm.

    Raises ProbeError where one of them failed, with what it said last, or hung.
    """
    hung = threading.Event()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        probes = _probed(task, device, count, said, hung)
        if probes:
            return probes
        if hung.is_set():
            raise ProbeError(f"no answer within {GIVE_UP_SECONDS:.0f} s")
        said.seek(0)
        lines = [line.strip() for line in said if line.strip()]
    raise ProbeError(lines[-1] if lines else "")


def _probed(
    task: dict[str, Any], device: Mapping[str, str], count: int, said: IO[str], hung: threading.Event
) -> list[Probe] | None:
    """As side_by_side(); None where one of them failed. Their errors are written to `said`; `hung` is set
    where they were ended for taking too long."""
    environment = settings.child_environment("", device)
    command = python_module("search.launcher.workers_per_gpu")
    probes: list[subprocess.Popen[str]] = []

    def give_up() -> None:
        hung.set()
        for probe in probes:
            probe.kill()

    timer = threading.Timer(GIVE_UP_SECONDS, give_up)
    timer.start()
    try:
        for _ in range(count):
            probe = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                env=environment,
            )
            probes.append(probe)
            if hung.is_set():  # it may have begun after the others were ended
                return None
            _tell(probe, json.dumps(task | {"parent": os.getpid()}))
        if not all(_heard(probe) == "ready" for probe in probes):
            return None
        for probe in probes:
            _tell(probe, "go")
        found = [json.loads(probe.communicate()[0] or "null") for probe in probes]
        return [Probe(**one) for one in found] if all(found) else None
    except (OSError, ValueError):
        return None
    finally:
        timer.cancel()
        for probe in probes:
            probe.kill()
            with suppress(subprocess.TimeoutExpired):  # one that the kernel holds
                probe.wait(10)
            for stream in (probe.stdin, probe.stdout):
                if stream:
                    with suppress(OSError):
                        stream.close()


def _tell(probe: subprocess.Popen[str], line: str) -> None:
    assert probe.stdin
    probe.stdin.write(line + "\n")
    probe.stdin.flush()


def _heard(probe: subprocess.Popen[str]) -> str:
    assert probe.stdout
    return probe.stdout.readline().strip()


def free_memory(device: Mapping[str, str]) -> int | None:
    """Bytes that are free of the GPU that an environment pins, as nvidia-smi says; None where it may be any
    (CUDA counts the fastest first), or is a part of one, of which nvidia-smi does not tell."""
    name, by_bus = device["CUDA_VISIBLE_DEVICES"], settings.orders_by_bus(device)
    gpu = nvidia.uuid_of(name, by_bus, nvidia.known())
    if gpu is None or gpu.startswith("MIG-"):
        return None
    command = ["nvidia-smi", f"--id={gpu}", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    with suppress(OSError, subprocess.SubprocessError, ValueError):
        said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
        return int(said.split()[0]) << 20
    return None


def gpus_of(slots: Sequence[Slot]) -> int:
    """How many GPUs these slots are, one a GPU; 0 where one of them is a core."""
    gpus = [slot.environment.get("CUDA_VISIBLE_DEVICES", "") for slot in slots]
    return len(gpus) if all(gpus) else 0


def is_worth_measuring(slots: Sequence[Slot], trials: int) -> bool:
    """Whether there is something to decide for these slots, one a GPU, and enough trials to gain by it."""
    gpus = gpus_of(slots)
    return gpus > 0 and trials >= WORTH_TRIALS * gpus


def measured_on(config: StudyConfig, slots: Sequence[Slot]) -> WorkersPerGpu:
    """Measures on the GPU of the first slot; the others are taken to be like it, and share the cores."""
    environment = slots[0].environment
    most, bound = most_by_cores(len(slots), cores())
    if most == 1:
        return WorkersPerGpu(1, {}, bound)
    free = free_memory(environment)
    return measured(config, environment, free, most=most, bound=bound)


def main() -> None:
    """One probe: reads a task, warms up, waits for a line, says what it measured."""
    from trainer import throughput
    from trainer.step_graph import cuda_recorder, plain_steps

    task = json.loads(sys.stdin.readline())
    die_with_parent(task["parent"])
    given = [Architecture.parse(document) for document in task["networks"]]

    def ready() -> None:
        _say("ready")
        sys.stdin.readline()

    recipe, seconds = Recipe.model_validate(task["recipe"]), task["seconds"]
    recorder = plain_steps if settings.plain_steps() else cuda_recorder
    found = throughput.steady(given, recipe, seconds, ready, make_recorder=recorder)
    _say(json.dumps({"images_per_second": found.images_per_second, "memory": found.memory}))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
