"""How many workers share a GPU; and what bounds a trial's memory."""

import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
import torch
from rich.console import Console
from worker_samples import make_config

from search.commands import launch_session, options
from search.launcher import workers_per_gpu
from search.launcher.workers_per_gpu import Probe, WorkersPerGpu
from search.machine import devices
from search.machine.devices import Slot
from search.study.config import StudyConfig, split_images
from space import cost, sampling
from space.random_suggest import RandomSuggest
from space.space import Task
from trainer.data.batches import feed
from trainer.data.dataset import load

ROOT = Path(__file__).parents[2]
GIB = 1 << 30
GPU = {"CUDA_VISIBLE_DEVICES": "0"}


def side_by_side(together: dict[int, float], memory: int = GIB) -> workers_per_gpu.Measure:
    """Probes that reach so many images a second in all; none where nothing is said of their number."""

    def measure(count: int) -> list[Probe]:
        if count not in together:
            raise workers_per_gpu.ProbeError("CUDA error" if together else "")
        return [Probe(together[count] / count, memory)] * count

    return measure


@pytest.mark.parametrize(
    ("together", "workers", "why"),
    [
        ({1: 100.0, 2: 105.0}, 1, "2 train no more in all"),
        ({1: 100.0, 2: 180.0, 4: 185.0}, 2, "4 train no more in all"),
        ({1: 100.0, 2: 180.0, 4: 300.0, 8: 400.0}, 8, "8 is the most that is tried"),
        ({1: 100.0, 2: 180.0}, 2, "4 at a time did not run: CUDA error"),
        ({}, 1, "1 at a time did not run"),
    ],
)
def test_more_workers_are_taken_while_they_train_more(
    together: dict[int, float], workers: int, why: str
) -> None:
    found = workers_per_gpu.decide(side_by_side(together), None)
    assert (found.workers, found.reason) == (workers, why)


def test_no_more_workers_are_taken_than_there_is_memory_for() -> None:
    tried: list[int] = []

    def measure(count: int) -> list[Probe]:
        tried.append(count)
        return [Probe(100.0, 10 * GIB)] * count

    found = workers_per_gpu.decide(measure, 30 * GIB)
    assert (found.workers, tried) == (2, [1, 2])
    assert str(found) == "2 a GPU, 2.0 times the throughput of one; 4 would need 40 of 30 GiB"


def of_images(config: StudyConfig, train: int, validation: int, side: int, limit: int | None) -> StudyConfig:
    data = {"train_images": train, "validation_images": validation, "image_size": side, "limit": limit}
    data |= {"validation_share": 0.1}
    task = config.task.model_copy(update={"image_size": side})
    return config.model_copy(update={"data": config.data.model_copy(update=data), "task": task})


@pytest.mark.parametrize(("train", "limit"), [(157_000, None), (5_000, 5_000)])
def test_images_that_each_worker_keeps_on_the_gpu_count_too(
    train: int, limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of the data set, however few are trained on; a probe has a batch of noise."""
    tried: list[int] = []

    def measure(_task: object, _device: object, count: int) -> list[Probe]:
        tried.append(count)
        return [Probe(100.0, 3 * GIB // 2)] * count

    monkeypatch.setattr(workers_per_gpu, "side_by_side", measure)
    few = workers_per_gpu.measured(make_config(), GPU, 20 * GIB)
    assert (few.workers, tried) == (8, [1, 2, 4, 8])
    tried.clear()
    config = of_images(make_config(), train, 17_444, 64, limit)  # 174,440 images of 64 x 64: 2 GiB
    found = workers_per_gpu.measured(config, GPU, 20 * GIB)
    assert (found.workers, tried) == (4, [1, 2, 4])
    assert found.reason == "8 would need 28 of 20 GiB"


def test_what_a_worker_keeps_of_images_is_what_a_training_puts_on_its_device(tmp_path: Path) -> None:
    data, images = split_images(load("digits", tmp_path), None, None, 0)
    task = Task(channels=1, image_size=8)
    config = make_config().model_copy(update={"data": data, "task": task})
    ready = feed(images.dataset, images.split, torch.device("cpu"))
    there = (ready.images, ready.labels, ready.train, ready.validation)
    assert workers_per_gpu.images_bytes(config) == sum(one.nbytes for one in there)


def test_more_workers_than_cores_are_not_tried() -> None:
    assert workers_per_gpu.most_by_cores(2, 9) == (4, "there are 9 cores for 2 GPUs")
    assert workers_per_gpu.most_by_cores(4, 2) == (1, "there are 2 cores for 4 GPUs")
    assert workers_per_gpu.most_by_cores(1, 64) == (8, "")
    grows = side_by_side({count: 100.0 * count for count in (1, 2, 4, 8)})
    found = workers_per_gpu.decide(grows, None, *workers_per_gpu.most_by_cores(1, 3))
    assert str(found) == "2 a GPU, 2.0 times the throughput of one; there are 3 cores for one GPU"


def test_with_a_core_a_gpu_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_per_gpu, "cores", lambda: 1)
    found = workers_per_gpu.measured_on(make_config(), [Slot("gpu0", GPU)])
    assert str(found) == "1 a GPU; there is one core for one GPU"


@pytest.mark.parametrize(
    ("pinned", "asked"),
    [
        ({"CUDA_VISIBLE_DEVICES": "1"}, None),
        ({"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, "GPU-b"),
        ({"CUDA_VISIBLE_DEVICES": "GPU-b"}, "GPU-b"),
        ({"CUDA_VISIBLE_DEVICES": "MIG-c"}, None),
    ],
)
def test_free_memory_is_that_of_the_gpu_that_cuda_means(
    pinned: dict[str, str], asked: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA counts the fastest first, nvidia-smi as they lie on the bus: of two models 1 may be either."""
    program = tmp_path / "nvidia-smi"
    listed = "GPU 0: T4 (UUID: GPU-a)\nGPU 1: H100 (UUID: GPU-b)\n  MIG 1g Device 0: (UUID: MIG-c)"
    whole = "GPU 0: T4 (UUID: GPU-a)\nGPU 1: H100 (UUID: GPU-b)"
    said = listed if "MIG" in pinned["CUDA_VISIBLE_DEVICES"] else whole
    program.write_text(
        f"#!/bin/sh\n[ $1 = -L ] && echo '{said}' && exit\n[ $1 = --id=GPU-b ] && echo 1000 && exit\nexit 1\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert workers_per_gpu.free_memory(pinned) == (1000 << 20 if asked else None)


def test_networks_of_the_search_itself_are_measured() -> None:
    config = make_config()
    found = workers_per_gpu.networks(config)
    macs = [cost.total(network).macs for network in found]
    assert macs == sorted(macs) and macs[0] < macs[-1]
    drawn = sorted(
        cost.total(sampling.propose(config.space, config.budget, config.task, RandomSuggest(seed))).macs
        for seed in range(workers_per_gpu.DRAWS)
    )
    assert [drawn.index(one) for one in macs] == [10, 30, 50]
    assert all(cost.total(network).parameters <= config.budget.max_parameters for network in found)


@pytest.mark.thorough  # real processes with torch
def test_probes_train_side_by_side() -> None:
    """Real ones, on the CPU."""
    probes = workers_per_gpu.side_by_side(task(), {"CUDA_VISIBLE_DEVICES": ""}, 2)
    assert probes and len(probes) == 2
    assert all(probe.images_per_second > 0 and 50 << 20 < probe.memory < 4 * GIB for probe in probes)


@pytest.mark.thorough
def test_probes_decide_how_many_workers_there_are() -> None:
    found = workers_per_gpu.measured(
        make_config(max_parameters=20_000), {"CUDA_VISIBLE_DEVICES": ""}, None, seconds=0.2
    )
    assert set(found.together) >= {1, 2}
    assert all(rate > 0 for rate in found.together.values())


def task() -> dict[str, object]:
    config = make_config()
    networks = [sampling.smallest(config.space, config.task).document()]  # a step takes milliseconds
    return {"networks": networks, "recipe": config.recipe.model_dump(mode="json"), "seconds": 0.1}


@pytest.mark.thorough  # real processes with torch
def test_a_probe_that_fails_is_no_measurement() -> None:
    """It says why: on a GPU nobody would find out otherwise."""
    with pytest.raises(
        workers_per_gpu.ProbeError, match=r"ArchitectureError: architecture: stem: Field required"
    ):
        workers_per_gpu.side_by_side(task() | {"networks": [{"stages": "none"}]}, {}, 2)


def test_a_probe_that_hangs_is_no_measurement_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_per_gpu, "GIVE_UP_SECONDS", 1.0)
    began = time.monotonic()
    with pytest.raises(workers_per_gpu.ProbeError, match=r"^no answer within 1 s$"):
        workers_per_gpu.side_by_side(task() | {"seconds": 3_600.0}, {"CUDA_VISIBLE_DEVICES": ""}, 2)
    assert time.monotonic() - began < 60


def test_nothing_is_measured_without_a_gpu_or_for_few_trials() -> None:
    gpus = [Slot("gpu0", GPU), Slot("gpu1", GPU)]
    assert not workers_per_gpu.is_worth_measuring(devices.slots("none", 2), 1_000)
    assert not workers_per_gpu.is_worth_measuring([], 1_000)
    assert not workers_per_gpu.is_worth_measuring(gpus, 19)
    assert workers_per_gpu.is_worth_measuring(gpus, 20)


def test_as_many_workers_are_started_as_pay(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setattr(
        workers_per_gpu, "measured", lambda *_, **__: WorkersPerGpu(3, {1: 1.0, 3: 2.0}, "enough")
    )
    monkeypatch.setattr(workers_per_gpu, "cores", lambda: 16)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    found = launch_session._shared(console, make_config(), 100, "all", devices.slots("all", None))
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in found] == ["0", "1"] * 3
    assert capsys.readouterr().err.endswith("workers  3 a GPU, 2.0 times the throughput of one; enough\n")


def test_the_plan_says_why_a_gpu_has_one_worker(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    slots = devices.slots("all", None)
    assert launch_session._shared(console, make_config(), 9, "all", slots) == slots
    said = "workers  1 a GPU; fewer than 10 trials for each are not worth measuring more\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("given", "size"),
    [("4G", 4 * GIB), ("4GiB", 4 * GIB), ("800M", 800 << 20), ("1.5g", 3 * GIB // 2), (GIB, GIB)],
)
def test_memory_is_told_as_people_tell_it(given: object, size: int) -> None:
    assert options.Memory().convert(given, None, None) == size


@pytest.mark.parametrize("given", ["much", "-1G", "12", "G"])
def test_what_is_no_amount_of_memory_is_refused(given: str) -> None:
    with pytest.raises(click.BadParameter, match="is not an amount of memory like 800M or 4G"):
        options.Memory().convert(given, None, None)


def test_memory_that_no_training_can_do_with_is_refused() -> None:
    """A worker could not even load its modules, and would die of it again and again."""
    with pytest.raises(click.BadParameter, match="'1M' is less than any training takes; give 64M or more"):
        options.Memory().convert("1M", None, None)


@pytest.mark.thorough  # real processes with torch
def test_a_training_that_takes_more_than_it_may_is_out_of_memory() -> None:
    program = """
import torch
from trainer.device import bound_memory, memory_errors
torch.set_num_threads(1)
bound_memory(torch.device("cpu"), 300 << 20)
kept = torch.ones(100 << 18)
try:
    with memory_errors():
        torch.ones(300 << 18)
except MemoryError as error:
    print("refused", len(kept))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["refused", str(100 << 18)], done.stderr
