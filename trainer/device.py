"""Chooses the device to train on and the numbers to compute in, and bounds and guards its memory.

Sets torch's and the process's own limits; reads no file but /proc/self/statm. Called by trainer/loop.py,
search/worker/training_function.py and the commands that take --device. Knows neither networks nor data.
"""

import gc
import resource
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import torch
from torch.nn import functional

from space.errors import DeviceError
from trainer.messages import one_line
from trainer.recipe.document import Recipe


def select_device(name: str | None = None) -> torch.device:
    """The named device ("cpu", "cuda", "cuda:1"); without a name the first GPU, or the CPU if there is none.

    A GPU comes with its index, which torch insists on where one is made the present one; "cuda" is the first.
    Raises DeviceError for a device that is not there, unknown, or of another kind.
    """
    if name is None:
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceError(f"unknown device {name!r}; use cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(f"device {name!r} is not supported; use cpu, cuda or cuda:N")
    if device.type == "cpu":
        return device
    index = device.index or 0
    if index >= torch.cuda.device_count():
        raise DeviceError(
            f"no device {name}: {torch.cuda.device_count()} GPUs are visible; use cpu or another GPU"
        )
    return torch.device("cuda", index)


def training_type(recipe: Recipe, device: torch.device) -> torch.dtype:
    """What convolutions are computed in while training; "auto" is bfloat16 where the hardware has it.

    On a CPU that has it (AVX-512 BF16) one thread trained 8x8 networks as fast or 1.5 times as fast as in
    float32, and 32x32 networks 1.5 to 2.2 times as fast. Weights, norms and scores that count stay in
    float32.
    """
    if recipe.precision != "auto":
        return torch.bfloat16 if recipe.precision == "bfloat16" else torch.float32
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        fast = bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
    return torch.bfloat16 if fast else torch.float32


def autocast(device: torch.device, precision: torch.dtype) -> AbstractContextManager[object]:
    """Computes convolutions and products in bfloat16 where that is the precision, else as the tensors are."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision is torch.bfloat16)


@contextmanager
def cudnn_choices(device: torch.device, *, timed: bool) -> Iterator[None]:
    """How cuDNN chooses its algorithms within: by its rules, or `timed`, by trying all for each new shape.

    Trying takes seconds for a network, which a long training has back and a brief one has not. float32 is
    float32 in either case, without TF32, in products too, which some containers would have it in. What was
    set before is set again afterwards.
    """
    if device.type != "cuda":
        yield
        return
    products, before = torch.backends.cuda.matmul, torch.backends.cuda.matmul.allow_tf32
    products.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=timed, allow_tf32=False):
            yield
    finally:
        products.allow_tf32 = before


def require_usable(device: torch.device, recipe: Recipe) -> None:
    """Trains one 3x3 convolution on a GPU for one step, in the precision of the recipe.

    Raises DeviceError with what CUDA says of a card that is older than this build of torch, taken by another
    process or broken, or that computes something else. A lack of memory passes: trials know what to do of it.
    """
    try:
        found = _gradient(device, training_type(recipe, device))
    except RuntimeError as error:
        if _is_of_memory(error):
            return
        raise DeviceError(f"cannot train on {device}: {one_line(error)}") from None
    if found != EXPECTED:
        raise DeviceError(f"{device} computes wrongly: a gradient is {found}, not {EXPECTED}")


def _gradient(device: torch.device, precision: torch.dtype) -> float:
    """The sum of a convolution's gradient over images of 8 x 8 ones; each entry is exact in bfloat16 too."""
    images = torch.ones(8, 8, 8, 8, device=device).contiguous(memory_format=torch.channels_last)
    weight = torch.ones(8, 8, 3, 3, device=device, requires_grad=True)
    with autocast(device, precision), cudnn_choices(device, timed=False):
        maps = functional.conv2d(images, weight, padding=1)
    (gradient,) = torch.autograd.grad(maps.float().sum(), weight)
    return gradient.double().sum().item()


# Each of 8 images, inputs and outputs sees 7, 8 and 7 rows and columns from the three places of its kernel.
EXPECTED = float(8 * 8 * 8 * (7 + 8 + 7) ** 2)


def is_lost(device: torch.device) -> bool:
    """Whether a GPU answers with an error whatever is asked, as after an access to memory that is not there.

    CUDA says so for as long as the process lives; and torch before 2.15 of all that is drawn at random, where
    a recording of a graph was broken off. A GPU that is short of memory is not lost.
    """
    if device.type != "cuda":
        return False
    try:
        torch.cuda.synchronize(device)
        torch.ones(1, device=device).add_(1).item()
        torch.rand(1, device=device).item()
    except RuntimeError as error:
        return not _is_of_memory(error)
    return False


def bound_memory(device: torch.device, size: int) -> None:
    """Lets this process allocate so many bytes more, on a CPU, or so many of the GPU. For good."""
    if device.type == "cuda":
        whole = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, size / whole), device)
        return
    pages = int(Path("/proc/self/statm").read_text().split()[5]) if Path("/proc/self/statm").exists() else 0
    limit, most = pages * resource.getpagesize() + size, resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (limit if most < 0 else min(limit, most), most))


# What torch, cuDNN 8 and 9 and cuBLAS say when there is no memory left, where they have no type for it.
SHORT_OF_MEMORY = (
    *("can't allocate memory", "out of memory", "Cannot allocate memory", "OUT_OF_MEMORY"),
    *("ALLOC_FAILED", "ALLOCATION_FAILED", "cudaErrorMemoryAllocation"),
)
# What they say too where a handle, a workspace or a plan found no memory: it is of memory if little is free.
PERHAPS_SHORT = ("CUBLAS_STATUS_NOT_INITIALIZED", "CUDNN_STATUS_NOT_INITIALIZED", "unable to find an engine")
LITTLE = 1 << 30  # bytes


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turns a lack of memory, of whatever device, into a MemoryError of one line, and frees what was held.

    Other errors pass through. An error holds its frames, and they the tensors of the training: the frames are
    cleared first, so whoever catches the MemoryError has the memory back and can train something smaller.
    Raises MemoryError.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_of_memory(error):
            raise
        short = MemoryError(one_line(error))
        _clear_frames(error)
        gc.collect()
        _empty_cache()
        try:
            raise short
        finally:
            short.__context__ = None  # Python has put the first error there, and with it all that it holds


@contextmanager
def released_afterwards(device: torch.device) -> Iterator[None]:
    """Gives a GPU's memory back to the others there once a training has ended, however it did.

    torch keeps for a process what its largest network took. What an error holds (a pruned trial ends by one)
    is freed first. On a CPU nothing is done. Raises what is raised within.
    """
    try:
        yield
    except BaseException as error:
        if device.type == "cuda":
            _clear_frames(error)
        raise
    finally:
        if device.type == "cuda":
            gc.collect()
            _empty_cache()


def _empty_cache() -> None:
    if torch.cuda.is_available():
        with suppress(RuntimeError):  # of a GPU that is lost; the first error says so
            torch.cuda.empty_cache()


def _clear_frames(error: BaseException | None) -> None:
    """Empties the finished frames of an error and of those before it; running ones are left as they are."""
    seen = set[int]()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _is_of_memory(error: Exception) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    said = str(error)
    if any(words in said for words in SHORT_OF_MEMORY):
        return True
    return any(words in said for words in PERHAPS_SHORT) and _little_is_free()


def _little_is_free() -> bool:
    """Whether the present GPU, or the share of it that this process may take, is nearly full."""
    if not torch.cuda.is_available():
        return False
    try:
        free, whole = torch.cuda.mem_get_info()
        allowed = int(torch.cuda.get_per_process_memory_fraction() * whole)
        return min(free, allowed - torch.cuda.memory_reserved()) < LITTLE
    except RuntimeError:  # nothing can be asked of a GPU that is lost
        return False
