"""Which GPUs there are and what names them; workers whose GPU is unusable or lost. nvidia-smi is fake."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from torch.cuda import _utils
from worker_samples import make_config

from search import settings
from search.commands import plan
from search.machine import gpu_choice, nvidia
from search.machine.devices import Slot, slots
from search.machine.usable_device import usable_device
from search.study.config import Images
from search.training.train import Flags, make
from search.worker.training_function import make_training_function
from space.architecture import Architecture, Stage, Stem
from space.errors import DeviceError, UsageError
from trainer import device as devices_of_torch, loop, step_graph
from trainer.callbacks import NO_CALLBACKS
from trainer.recipe.document import Recipe

ONE, TWO = "GPU-11111111-aaaa", "GPU-22222222-bbbb"
LISTED = f"""GPU 0: NVIDIA H100 80GB HBM3 (UUID: {ONE})
GPU 1: NVIDIA H100 80GB HBM3 (UUID: {TWO})
"""
CUT = f"""GPU 0: NVIDIA A100-SXM4-40GB (UUID: {ONE})
  MIG 1g.5gb      Device  0: (UUID: MIG-c6d4f1ef-42e4)
  MIG 1g.5gb      Device  1: (UUID: MIG-cba663e8-9bed)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: {TWO})
"""
BUS = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A machine whose nvidia-smi says this (None: it has none), and with so many device files."""

    def make(said: str | None, files: int = 0, code: int = 0, then: str = "") -> None:
        programs, there = tmp_path / "bin", tmp_path / "dev"
        for folder in (programs, there):
            folder.mkdir(exist_ok=True)
        for name in ("nvidiactl", "nvidia-uvm", *(f"nvidia{i}" for i in range(files))):
            (there / name).touch()
        if said is not None:
            program = programs / "nvidia-smi"
            program.write_text(f"#!/bin/sh\n{then}\n/bin/cat <<'END'\n{said}END\nexit {code}\n")
            program.chmod(0o755)
        monkeypatch.setenv("PATH", str(programs))
        monkeypatch.setattr(nvidia, "DEVICE_FILES", there)

    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name, raising=False)
    return make


Machine = Callable[..., None]


def test_indices_of_nvidia_smi_come_with_its_order(machine: Machine) -> None:
    machine(LISTED, 2)
    assert slots("all", None) == [
        Slot("gpu0", {"CUDA_VISIBLE_DEVICES": "0"} | BUS),
        Slot("gpu1", {"CUDA_VISIBLE_DEVICES": "1"} | BUS),
    ]
    assert slots("1", 2) == [Slot(f"gpu1.{i}", {"CUDA_VISIBLE_DEVICES": "1"} | BUS) for i in range(2)]


def test_indices_that_somebody_gave_are_passed_on_as_they_are(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(LISTED, 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"1,{ONE}")
    expected = [Slot("gpu1", {"CUDA_VISIBLE_DEVICES": "1"}), Slot(ONE, {"CUDA_VISIBLE_DEVICES": ONE})]
    assert slots("all", None) == expected
    assert slots("GPU-1111", None) == expected[1:]
    with pytest.raises(DeviceError, match=f"no GPU 0; this machine has 1, {ONE}"):
        slots("0", None)


def test_uuids_and_their_beginnings_name_gpus(machine: Machine) -> None:
    machine(LISTED, 2)
    assert slots(f"{TWO},GPU-1", None) == [
        Slot(TWO, {"CUDA_VISIBLE_DEVICES": TWO}),
        Slot(ONE, {"CUDA_VISIBLE_DEVICES": ONE}),
    ]
    with pytest.raises(DeviceError, match="there is no GPU GPU-33; this machine has 0, 1"):
        slots("GPU-33", None)


def test_of_a_gpu_that_is_cut_up_only_the_parts_are_used(machine: Machine) -> None:
    machine(CUT, 2)
    parts = [
        Slot(part, {"CUDA_VISIBLE_DEVICES": part}) for part in ("MIG-c6d4f1ef-42e4", "MIG-cba663e8-9bed")
    ]
    whole = Slot("gpu1", {"CUDA_VISIBLE_DEVICES": "1"} | BUS)
    assert slots("all", None) == [*parts, whole]
    assert slots("0", None) == slots(ONE, None) == parts
    assert slots("MIG-cba", None) == parts[1:]


@pytest.mark.parametrize("wanted", ["first", "0;1", "GPU", "-1", "0,"])
def test_what_names_no_gpu_is_refused(wanted: str, machine: Machine) -> None:
    machine(LISTED, 2)
    with pytest.raises(UsageError, match="UUIDs as nvidia-smi -L lists them"):
        slots(wanted, None)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"said": None}, "nvidia-smi is missing"),
        (
            {"said": "Failed to initialize NVML: Driver/library version mismatch\n", "code": 18},
            "nvidia-smi failed: Failed to initialize NVML: Driver/library version mismatch",
        ),
        ({"said": "No devices found\n"}, "nvidia-smi lists no GPU"),
        ({"said": LISTED, "then": "/bin/sleep 60"}, "nvidia-smi did not answer within 0.2 s"),
    ],
)
def test_a_gpu_that_cannot_be_listed_is_no_reason_to_train_on_the_cpu(
    given: dict[str, Any], why: str, machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine(files=2, **given)
    monkeypatch.setattr(nvidia, "SECONDS", 0.2 if "then" in given else 20.0)
    for ask in (lambda: slots("all", None), lambda: gpu_choice.take_least_held_gpu(tmp_path).__enter__()):
        with pytest.raises(DeviceError, match=why) as caught:
            ask()
        assert "nvidia0, but" in str(caught.value)
    assert slots("none", 1) == [Slot("cpu0", {"CUDA_VISIBLE_DEVICES": ""})]
    taken_at_its_word = [
        Slot("gpu1", {"CUDA_VISIBLE_DEVICES": "1"} | BUS),
        Slot("MIG-1", {"CUDA_VISIBLE_DEVICES": "MIG-1"}),
    ]
    assert slots("1,MIG-1", None) == taken_at_its_word


def test_a_machine_without_gpus_trains_on_its_cores(machine: Machine) -> None:
    machine(None)
    assert [slot.name for slot in slots("all", 2)] == ["cpu0", "cpu1"]
    with pytest.raises(DeviceError, match="there is no GPU 0; this machine has none"):
        slots("0", None)


@pytest.mark.parametrize(
    "environment",
    [
        {"CUDA_VISIBLE_DEVICES": "1"} | BUS,
        {"CUDA_VISIBLE_DEVICES": "1,0"},
        {"CUDA_VISIBLE_DEVICES": TWO},
        {"CUDA_VISIBLE_DEVICES": "GPU-2222"},
    ],
)
def test_one_gpu_has_one_lock_whatever_it_is_called(
    environment: dict[str, str], machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(LISTED, 2)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert gpu_choice.device_name().endswith(TWO)


def test_a_worker_that_was_given_no_gpu_locks_the_first(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(LISTED, 2)
    assert gpu_choice.device_name().endswith(ONE)
    machine(CUT, 2)
    assert gpu_choice.device_name().endswith("MIG-c6d4f1ef-42e4")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpu_choice.device_name().endswith("-any")


def test_an_index_that_may_be_any_of_two_models_stays_an_index(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(LISTED.replace("H100 80GB HBM3", "T4", 1), 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert gpu_choice.device_name().endswith("-gpu1")


def test_workers_that_name_a_gpu_differently_hold_the_same_one(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine(LISTED, 2)
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "")
    pinned: list[object] = []
    with gpu_choice.take_least_held_gpu(tmp_path, pinned.append):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"{ONE},{TWO}")
        with gpu_choice.take_least_held_gpu(tmp_path, pinned.append):
            pass
    assert pinned == [{"CUDA_VISIBLE_DEVICES": "0"} | BUS, {"CUDA_VISIBLE_DEVICES": TWO}]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_convolution_proves_that_a_device_trains(precision: str) -> None:
    devices_of_torch.require_usable(torch.device("cpu"), Recipe.model_validate({"precision": precision}))


def fail(said: str) -> Callable[..., NoReturn]:
    def raise_it(*_: object, **__: object) -> NoReturn:
        raise RuntimeError(said)

    return raise_it


@pytest.mark.parametrize(
    "said",
    [
        "CUDA error: no kernel image is available for execution on the device",
        "CUDA error: CUDA-capable device(s) is/are busy or unavailable\nCompile with ...",
    ],
)
def test_a_gpu_that_cannot_train_is_told_in_one_line(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices_of_torch, "_gradient", fail(said))
    with pytest.raises(DeviceError, match="cannot train on cpu: CUDA error") as caught:
        devices_of_torch.require_usable(torch.device("cpu"), Recipe())
    assert "\n" not in str(caught.value)


def test_a_gpu_that_is_full_is_left_to_the_trials_and_one_that_errs_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(devices_of_torch, "_gradient", fail("CUDA error: out of memory"))
    devices_of_torch.require_usable(torch.device("cpu"), Recipe())
    monkeypatch.setattr(devices_of_torch, "_gradient", lambda *_: 247_807.0)
    with pytest.raises(DeviceError, match=r"a gradient is 247807\.0, not 247808\.0"):
        devices_of_torch.require_usable(torch.device("cpu"), Recipe())


def pretend_that_gpus_train(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Two GPUs that are none; returns those that will have been made the present one, by torch's own
    reading of what names them."""
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(
        torch.cuda, "set_device", lambda device: chosen.append(_utils._get_device_index(device))
    )
    monkeypatch.setattr(devices_of_torch, "_gradient", lambda *_: 247_808.0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "H100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    return chosen


@pytest.mark.parametrize(("name", "index"), [("cuda", 0), ("cuda:0", 0), ("cuda:1", 1)])
def test_a_gpu_that_is_named_becomes_the_present_one(
    name: str, index: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`cuda` too, which has no index until it is given one: torch makes none without an index the present."""
    chosen = pretend_that_gpus_train(monkeypatch)
    assert usable_device(Recipe(), name) == torch.device("cuda", index)
    assert devices_of_torch.select_device(name) == torch.device("cuda", index)
    assert chosen == [index]
    with pytest.raises(DeviceError, match="no device cuda:2: 2 GPUs are visible"):
        usable_device(Recipe(), "cuda:2")


class Left(BaseException):
    pass


@pytest.fixture
def train(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Callable[..., object]:
    """Makes a worker's training function on a GPU that is none, and calls it; `leave` raises Left."""
    machine(LISTED, 2)
    monkeypatch.setattr(devices_of_torch, "select_device", lambda _: torch.device("cuda", 0))
    pretend_that_gpus_train(monkeypatch)

    def leave(reason: str) -> None:
        raise Left(reason)

    def call(
        error: Exception,
        on_synchronising: Callable[..., object],
        on_drawing: Callable[..., object] = lambda *_, **__: torch.zeros(1),
    ) -> object:
        def fit(*_: object, **__: object) -> NoReturn:
            raise error

        monkeypatch.setattr(loop, "fit", fit)
        monkeypatch.setattr(torch.cuda, "synchronize", on_synchronising)
        monkeypatch.setattr(torch, "ones", lambda *_, **__: torch.zeros(1))
        monkeypatch.setattr(torch, "rand", on_drawing)
        images = Images(dataset=None, split=None)  # type: ignore[arg-type]
        name, made = make_training_function(make_config(), images, leave=leave)
        assert name == "H100"
        return made(None, 0, callbacks=NO_CALLBACKS)  # type: ignore[arg-type]

    return call


ILLEGAL = "CUDA error: an illegal memory access was encountered"


def test_a_worker_whose_gpu_is_lost_ends_and_its_trial_is_not_failed(train: Callable[..., object]) -> None:
    with pytest.raises(Left, match=ILLEGAL):
        train(RuntimeError(ILLEGAL), fail(ILLEGAL))


def test_a_worker_that_can_draw_nothing_at_random_any_more_ends_too(train: Callable[..., object]) -> None:
    """Else it would fail the networks with dropout, and no others."""
    said = "Offset increment outside graph capture encountered unexpectedly."
    with pytest.raises(Left, match=said):
        train(RuntimeError(said), lambda _: None, fail(said))


def test_an_error_after_which_the_gpu_works_is_the_trials_own(train: Callable[..., object]) -> None:
    with pytest.raises(RuntimeError, match="sizes do not match"):
        train(RuntimeError("sizes do not match"), lambda _: None)
    with pytest.raises(RuntimeError, match="sizes do not match"):
        train(RuntimeError("sizes do not match"), fail("CUDA error: out of memory"))


def test_a_worker_for_which_torch_finds_no_gpu_does_not_train_on_the_cpu(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(LISTED, 2)
    monkeypatch.setattr(devices_of_torch, "select_device", lambda _: torch.device("cpu"))
    images = Images(dataset=None, split=None)  # type: ignore[arg-type]
    with pytest.raises(DeviceError, match="nvidia0, but torch finds no GPU; CUDA_VISIBLE_DEVICES= trains"):
        make_training_function(make_config(), images)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(
        DeviceError, match="GPU 0 was given, but torch finds none; CUDA_VISIBLE_DEVICES= trains"
    ):
        make_training_function(make_config(), images)
    for none in ("", "-1", "-1,0", " "):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", none)
        name, _ = make_training_function(make_config(), images)
        assert name.endswith(" CPU"), f"{none!r} hides all GPUs, as CUDA reads it"


def test_a_full_training_for_which_torch_finds_no_gpu_does_not_train_on_the_cpu_unless_it_is_told_to(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that is older than torch's CUDA: 200 epochs of a core, where a search was refused."""
    machine(LISTED, 2)
    monkeypatch.setattr(devices_of_torch, "select_device", lambda name: torch.device(name or "cpu"))
    file = tmp_path / "network.json"
    small = Architecture(channels=1, image_size=8, stem=Stem(width=4), stages=(Stage(blocks=1, width=4),))
    file.write_text(json.dumps(small.document()))
    flags = Flags(network=str(file), storage=f"sqlite:///{tmp_path}/s.db", data="digits", data_dir=tmp_path)
    with pytest.raises(DeviceError, match="nvidia0, but torch finds no GPU; CUDA_VISIBLE_DEVICES= trains"):
        make(flags)
    assert make(replace(flags, device="cpu")).device.type == "cpu"


AS_QUERIED = f"""0, {ONE}, 7.5, Tesla T4
1, {TWO}, 9.0, NVIDIA H100 80GB HBM3
"""


def test_the_plan_says_which_gpu_has_no_bfloat16(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(LISTED, 2)
    both = slots("0,1", None)
    machine(AS_QUERIED, 2)
    assert list(plan.precision(Recipe(), both)) == [
        "Tesla T4 (compute capability 7.5) has no bfloat16: trials there compute in float32, and float16 is"
        " not offered"
    ]
    assert list(plan.precision(Recipe(precision="bfloat16"), both[:1])) == [
        "Tesla T4 (compute capability 7.5) has no bfloat16, which the recipe asks for: leave its precision at"
        " auto"
    ]
    by_uuid = [Slot("one", {"CUDA_VISIBLE_DEVICES": ONE[:8]})]
    assert len(list(plan.precision(Recipe(), by_uuid))) == 1
    assert list(plan.precision(Recipe(), both[1:])) == []
    assert list(plan.precision(Recipe(precision="float32"), both)) == []
    assert list(plan.precision(Recipe(), [Slot("cpu0", {"CUDA_VISIBLE_DEVICES": ""})])) == []
    machine("Field compute_cap is not a valid field to query.\n", 2, code=2)
    assert list(plan.precision(Recipe(), both)) == []


@pytest.mark.parametrize(("capability", "said"), [((7, 5), 1), ((8, 0), 0)])
def test_a_worker_says_that_its_gpu_has_no_bfloat16(
    capability: tuple[int, int],
    said: int,
    train: Callable[..., object],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    with pytest.raises(RuntimeError, match="sizes do not match"):
        train(RuntimeError("sizes do not match"), lambda _: None)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["H100 has no bfloat16: trainings compute in float32"] * said


def test_steps_are_recorded_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.plain_steps({"SEARCH_PLAIN_STEPS": "1"}) and not settings.plain_steps({})
    given = {"SEARCH_PLAIN_STEPS": "1", "SEARCH_TRIALS": "7"}
    assert settings.child_environment("sqlite:///a.db", {}, given)["SEARCH_PLAIN_STEPS"] == "1"
    made: list[object] = []

    def fit(*_: object, make_recorder: object, **__: object) -> NoReturn:
        made.append(make_recorder)
        raise Left

    monkeypatch.setattr(loop, "fit", fit)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    images = Images(dataset=None, split=None)  # type: ignore[arg-type]
    for value in ("0", "1"):
        monkeypatch.setenv("SEARCH_PLAIN_STEPS", value)
        with pytest.raises(Left):
            make_training_function(make_config(), images)[1](None, 0, callbacks=NO_CALLBACKS)  # type: ignore[arg-type]
    assert made == [step_graph.cuda_recorder, step_graph.plain_steps]


def test_whether_memory_was_short_is_asked_before_it_is_given_back(
    train: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [1 << 20]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: free.append(70 << 30))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free[-1], 80 << 30))
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda: 1.0)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 0)
    with pytest.raises(MemoryError, match="unable to find an engine"):
        train(RuntimeError("GET was unable to find an engine to execute this computation"), lambda _: None)
    assert free[-1] == 70 << 30
