"""Which slots for workers this machine has: a GPU each, or a CPU core each.

Asks nvidia.py and the operating system. Called by the launcher and `search confirm`, whose children are
pinned by Slot.environment, and by gpu_choice.py for a worker that was started by hand. Never imports torch.
"""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from search import settings
from search.machine import nvidia
from space.errors import DeviceError, UsageError

NAME = re.compile(r"\d+|(GPU|MIG)-[0-9a-zA-Z-]+(/\d+/\d+)?")


@dataclass(frozen=True)
class Slot:
    """A place for one worker; `environment` pins it before torch is loaded."""

    name: str
    environment: dict[str, str]

    @property
    def is_cpu(self) -> bool:
        """Whether it has no GPU, by its environment."""
        return self.environment.get("CUDA_VISIBLE_DEVICES") == ""


@dataclass(frozen=True)
class Gpu:
    """A GPU, or a part of one, by what CUDA_VISIBLE_DEVICES takes: an index or a UUID.

    by_bus: the index is nvidia-smi's, in the order of the bus, which CUDA follows only if it is told to.
    """

    name: str
    by_bus: bool = False

    @property
    def environment(self) -> dict[str, str]:
        """What limits a process to it."""
        order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if self.by_bus else {}
        return {"CUDA_VISIBLE_DEVICES": self.name} | order

    @property
    def label(self) -> str:
        """Fit for the name of a slot, and of a file."""
        return f"gpu{self.name}" if self.name.isdigit() else re.sub(r"[^0-9a-zA-Z]", "-", self.name)


def how_many(slots: Iterable[Slot]) -> int:
    """The devices of these slots: a GPU that they share is one, each core another."""
    return len({slot.environment.get("CUDA_VISIBLE_DEVICES") or slot.name for slot in slots})


def gpus() -> list[Gpu]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES says, else nvidia-smi.

    Raises DeviceError where there are GPUs that nvidia-smi does not list.
    """
    visible = settings.visible_gpus()
    if visible is not None:
        return [Gpu(name) for name in visible]
    return [one for gpu in nvidia.listed() for one in _usable(gpu)]


def _usable(gpu: nvidia.ListedGpu) -> list[Gpu]:
    return [Gpu(part) for part in gpu.parts] or [Gpu(gpu.index, by_bus=True)]


def cores() -> int:
    """CPU cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def slots(wanted: str, workers: int | None) -> list[Slot]:
    """The slots for `--gpus wanted --workers workers` (None: one a GPU, else one a core).

    Raises DeviceError for a GPU that is not there, UsageError for what is no list of GPUs.
    """
    chosen = _chosen(wanted)
    if not chosen:
        count = cores() if workers is None else workers
        return [Slot(f"cpu{i}", {"CUDA_VISIBLE_DEVICES": ""}) for i in range(count)]
    count = len(chosen) if workers is None else workers
    pinned = [chosen[i % len(chosen)] for i in range(count)]
    shared = count > len(chosen)
    return [
        Slot(gpu.label + (f".{i // len(chosen)}" if shared else ""), gpu.environment)
        for i, gpu in enumerate(pinned)
    ]


def _chosen(wanted: str) -> list[Gpu]:
    if wanted == "none":
        return []
    if wanted == "all":
        return gpus()
    names = [part.strip() for part in wanted.split(",")]
    if not all(map(NAME.fullmatch, names)):
        raise UsageError(
            f"--gpus {wanted}: give numbers like 0,1, UUIDs as nvidia-smi -L lists them, all or none"
        )
    visible = settings.visible_gpus()
    if visible is None:
        found = _listed(names)
    else:
        found = {name: [Gpu(one) for one in visible if _is_named(one, name)] for name in names}
    if missing := [name for name, those in found.items() if not those]:
        there = [gpu.name for gpu in gpus()]
        has = f"has {', '.join(there)}" if there else "has none"
        raise DeviceError(f"--gpus {wanted}: there is no GPU {missing[0]}; this machine {has}")
    return list(dict.fromkeys(gpu for those in found.values() for gpu in those))


def _listed(names: Sequence[str]) -> dict[str, list[Gpu]]:
    """What each name says of the GPUs that nvidia-smi lists; taken at its word where that lists none."""
    try:
        known = nvidia.listed()
    except DeviceError:
        return {name: [Gpu(name, by_bus=name.isdigit())] for name in names}
    return {name: [one for gpu in known for one in _matching(gpu, name)] for name in names}


def _matching(gpu: nvidia.ListedGpu, name: str) -> list[Gpu]:
    """The GPU, or its parts, if the name is its own; one part if it is that one's."""
    if gpu.index == name:
        return _usable(gpu)
    if _is_named(gpu.uuid, name):
        return [Gpu(part) for part in gpu.parts] or [Gpu(gpu.uuid)]
    return [Gpu(part) for part in gpu.parts if _is_named(part, name)]


def _is_named(there: str, name: str) -> bool:
    """Whether a name is that of what is there: an index wholly, a UUID by its beginning, as CUDA has it."""
    return there == name or (not name.isdigit() and there.startswith(name))
