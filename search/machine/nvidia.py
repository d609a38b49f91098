"""The NVIDIA GPUs of this machine, as nvidia-smi lists them, and the parts into which MIG may have cut them.

Asks nvidia-smi and looks into /dev; sets nothing. Called by search/machine/devices.py and gpu_choice.py, and
by search/worker/training_function.py. Never imports torch.
"""

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from space.errors import DeviceError

SECONDS = 20.0  # that nvidia-smi may take: without a persistent driver it loads that first
DEVICE_FILES = Path("/dev")
WHOLE = re.compile(r"^GPU (\d+): (.*) \(UUID: (GPU-[^)]+)\)")
CAPABILITY = re.compile(r"(?P<index>\d+), (?P<uuid>GPU-[^,]+), (?P<major>\d+)\.(?P<minor>\d+), (?P<model>.+)")
BFLOAT16_SINCE = 8  # the major number of Ampere's compute capability; trainer/device.py asks torch for it
PART = re.compile(r"^\s+MIG .*\(UUID: (MIG-[^)]+)\)")


@dataclass(frozen=True)
class ListedGpu:
    """A line of `nvidia-smi -L`, and the UUIDs of its parts: where there are any, only they can be used."""

    index: str  # in the order of the bus
    model: str
    uuid: str
    parts: tuple[str, ...] = ()


def listed() -> list[ListedGpu]:
    """The GPUs of this machine. None where it has neither nvidia-smi nor a device file of a GPU.

    Raises DeviceError where there is a device file, and nvidia-smi lists no GPU for whatever reason.
    """
    found, reason = _asked()
    if not found and (file := device_file()):
        raise DeviceError(
            f"this machine has {file}, but {reason}; name GPUs by --gpus 0,1 or CUDA_VISIBLE_DEVICES,"
            " or train on the CPU by --gpus none"
        )
    return found


def device_file() -> Path | None:
    """The file of the first GPU in /dev, which is there wherever its driver runs."""
    there = (path for path in DEVICE_FILES.glob("nvidia*") if path.name.removeprefix("nvidia").isdigit())
    return min(there, default=None)


def known() -> list[ListedGpu]:
    """What nvidia-smi lists, nothing where it cannot be asked."""
    return _asked()[0]


def uuid_of(name: str, by_bus: bool, known: Sequence[ListedGpu]) -> str | None:
    """The UUID of what CUDA_VISIBLE_DEVICES names, of those that are known; None where it may be any.

    by_bus: an index is nvidia-smi's. CUDA's own is the same where all GPUs are of one model.
    """
    alike = by_bus or len({gpu.model for gpu in known}) == 1
    for gpu in known:
        if name == gpu.index and alike:
            return next(iter(gpu.parts), gpu.uuid)
        for uuid in (gpu.uuid, *gpu.parts):
            if not name.isdigit() and uuid.startswith(name):
                return uuid
    return None


def without_bfloat16(names: Sequence[str]) -> list[str]:
    """Model and compute capability of those GPUs that have no bfloat16, which Ampere was the first to have.

    names: indices and UUIDs, as CUDA_VISIBLE_DEVICES takes them. Nothing of GPUs that cannot be asked.
    """
    query = ["nvidia-smi", "--query-gpu=index,uuid,compute_cap,name", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    found = [CAPABILITY.match(line) for line in done.stdout.splitlines()]
    older = [
        f"{one['model']} (compute capability {one['major']}.{one['minor']})"
        for one in found
        if one
        and int(one["major"]) < BFLOAT16_SINCE
        and any(name == one["index"] or one["uuid"].startswith(name) for name in names)
    ]
    return list(dict.fromkeys(older))


def _asked() -> tuple[list[ListedGpu], str]:
    """What nvidia-smi lists, and why that is nothing where it is nothing."""
    if not shutil.which("nvidia-smi"):
        return [], "nvidia-smi is missing"
    try:
        done = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return [], f"nvidia-smi did not answer within {SECONDS:g} s"
    except OSError as error:
        return [], f"nvidia-smi cannot be run: {error.strerror}"
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        return [], f"nvidia-smi failed: {said[0] if said else f'exit code {done.returncode}'}"
    return _read(done.stdout), "nvidia-smi lists no GPU"


def _read(text: str) -> list[ListedGpu]:
    found: list[ListedGpu] = []
    for line in text.splitlines():
        if whole := WHOLE.match(line):
            found.append(ListedGpu(whole[1], whole[2], whole[3]))
        elif found and (part := PART.match(line)):
            last = found.pop()
            found.append(ListedGpu(last.index, last.model, last.uuid, (*last.parts, part[1])))
    return found
