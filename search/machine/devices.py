"""Which slots for workers this machine has: a GPU each, or a CPU core each.

Asks nvidia-smi and the operating system. Called by the launcher and `search confirm`, whose children are
pinned by Slot.environment, and by gpu_choice.py for a worker that was started by hand. Never imports torch.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass

from search import settings
from space.errors import DeviceError, UsageError


@dataclass(frozen=True)
class Slot:
    """A place for one worker; `environment` pins it before torch is loaded."""

    name: str
    environment: dict[str, str]


def gpus() -> list[str]:
    """Indices of the GPUs that this process may use, as nvidia-smi and CUDA_VISIBLE_DEVICES say."""
    visible = settings.visible_gpus()
    if visible is not None:
        return visible
    if not shutil.which("nvidia-smi"):
        return []
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [index for index in listed.stdout.split() if index.isdigit()]


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
        Slot(
            f"gpu{gpu}" + (f".{i // len(chosen)}" if shared else ""),
            {"CUDA_VISIBLE_DEVICES": gpu, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
        )
        for i, gpu in enumerate(pinned)
    ]


def _chosen(wanted: str) -> list[str]:
    if wanted == "none":
        return []
    there = gpus()
    if wanted == "all":
        return there
    chosen = [part.strip() for part in wanted.split(",")]
    if not all(part.isdigit() for part in chosen):
        raise UsageError(f"--gpus {wanted}: give numbers like 0,1, or all, or none")
    if missing := [gpu for gpu in chosen if gpu not in there]:
        has = f"has {', '.join(there)}" if there else "has none"
        raise DeviceError(f"--gpus {wanted}: there is no GPU {missing[0]}; this machine {has}")
    return list(dict.fromkeys(chosen))
