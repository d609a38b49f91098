"""Chooses a GPU for a worker that was given none: four beside each other on four GPUs take one each.

Workers of a launcher are pinned before they exist, by Slot.environment (search/machine/devices.py); for them
there is nothing to choose here.

A GPU that is taken is a locked file in DATA_DIR/slots, which the kernel unlocks however its worker ends. The
workers of a machine share the folder, those in containers too. Called by the worker's main, before torch is
loaded. Never imports torch.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import IO

from search import settings
from search.machine import devices
from search.machine.device_lock import try_lock
from space.errors import DeviceError

# One for all containers of a machine. The folder may lie on a network, where other machines see it.
BOOT = Path("/proc/sys/kernel/random/boot_id")


@contextmanager
def take_least_held_gpu(
    folder: Path, pin: Callable[[str], None] = settings.pin_to_gpu
) -> Iterator[str | None]:
    """Limits this process to the GPU that the fewest workers hold, before torch is loaded.

    `pin` writes CUDA_VISIBLE_DEVICES; yields the index, None where there is nothing to choose. Raises
    DeviceError where no file can be locked.
    """
    there = devices.gpus()
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
        pin(gpu)
        yield gpu


def _take(there: Sequence[str], folder: Path) -> tuple[str, IO[str]]:
    folder.mkdir(parents=True, exist_ok=True)
    machine = _machine()
    for gpu, layer in ((gpu, layer) for layer in count() for gpu in there):
        file = (folder / f"{machine}-gpu{gpu}.{layer}").open("w")
        if try_lock(file):
            return gpu, file
        file.close()
    raise AssertionError("count() does not end")


def device_name() -> str:
    """A name, fit for a file, of the device of this process and its machine."""
    device = "".join(c if c.isalnum() else "-" for c in settings.given_gpu() or "any")
    return f"{_machine()}-{device}"


def _machine() -> str:
    return BOOT.read_text().strip() if BOOT.exists() else "here"
