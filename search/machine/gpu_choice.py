"""Chooses a GPU for a worker that was given none: four beside each other on four GPUs take one each.

Workers of a launcher are pinned before they exist, by Slot.environment (search/machine/devices.py); for them
there is nothing to choose here.

A GPU that is taken is a locked file in DATA_DIR/slots, which the kernel unlocks however its worker ends. The
workers of a machine share the folder, those in containers too. Called by the worker's main, before torch is
loaded. Never imports torch.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import IO

from search import settings
from search.machine import devices, nvidia
from search.machine.device_lock import try_lock
from search.machine.devices import Gpu
from space.errors import DeviceError

ANY = "any"  # ends the name of a device that is no GPU

# One for all containers of a machine. The folder may lie on a network, where other machines see it.
BOOT = Path("/proc/sys/kernel/random/boot_id")


@contextmanager
def take_least_held_gpu(
    folder: Path, pin: Callable[[Mapping[str, str]], None] = settings.pin_to_gpu
) -> Iterator[str | None]:
    """Limits this process to the GPU that the fewest workers hold, before torch is loaded.

    `pin` writes CUDA_VISIBLE_DEVICES; yields the name, None where there is nothing to choose. Raises
    DeviceError where no file can be locked, and for GPUs that nvidia-smi does not list.
    """
    there = devices.gpus()
    if there:
        settings.grow_segments()
    if len(there) < 2:
        yield None
        return
    try:
        gpu, held = _take(there, folder)
    except OSError as error:
        raise DeviceError(
            f"cannot lock files in {folder}: {error.strerror}; choose another --data-dir"
        ) from None
    with held:
        pin(gpu.environment)
        yield gpu.name


def _take(there: Sequence[Gpu], folder: Path) -> tuple[Gpu, IO[str]]:
    folder.mkdir(parents=True, exist_ok=True)
    known = nvidia.known()
    named = [(gpu, f"{_machine()}-{_one_name(gpu, known)}") for gpu in there]
    for layer in count():
        for gpu, name in named:
            file = (folder / f"{name}.{layer}").open("w")
            if try_lock(file):
                return gpu, file
            file.close()
    raise AssertionError("count() does not end")


def device_name() -> str:
    """A name, fit for a file, of the device of this process and its machine: one name for one GPU.

    That is its UUID, however the process was limited to it, and its number where no UUID can be known.
    """
    visible = settings.visible_gpus()
    if visible is None:
        try:
            there = devices.gpus()
        except DeviceError:
            there = []
    else:
        there = [Gpu(name, settings.orders_by_bus()) for name in visible]
    return f"{_machine()}-{_one_name(there[0], nvidia.known()) if there else ANY}"


def is_of_gpu(name: str) -> bool:
    """Whether device_name() gave this one for a GPU."""
    return not name.endswith(f"-{ANY}")


def _one_name(gpu: Gpu, known: Sequence[nvidia.ListedGpu]) -> str:
    uuid = nvidia.uuid_of(gpu.name, gpu.by_bus or settings.orders_by_bus(), known)
    return re.sub(r"[^0-9a-zA-Z]", "-", uuid) if uuid else gpu.label


def _machine() -> str:
    return BOOT.read_text().strip() if BOOT.exists() else "here"
