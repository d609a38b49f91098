"""The device that a process trains on: the named one, the GPU that it was given, or the first there is.

Loads torch, and trains one step on a GPU; makes it the one that torch means where none is named. Called by
search/worker/training_function.py for a worker and search/training/train.py for a full training, so that
neither trains on the CPU without a word where torch cannot use the GPU.
"""

import logging
from typing import TYPE_CHECKING

from search import settings
from search.machine import nvidia
from space.errors import DeviceError

if TYPE_CHECKING:
    import torch

    from trainer.recipe.document import Recipe

logger = logging.getLogger(__name__)


def usable_device(recipe: "Recipe", name: str | None = None) -> "torch.device":
    """The named device (cpu, cuda:1); without a name the GPU that was given, the first that is there, or the
    CPU of a machine without one.

    Raises DeviceError for a device that is not there, and where a GPU is that torch does not find or cannot
    train on.
    """
    import torch

    from trainer.device import require_usable, select_device, training_type

    device = select_device(name)
    if name is None and device.type == "cpu" and settings.given_gpu():
        given = settings.given_gpu()
        raise DeviceError(
            f"GPU {given} was given, but torch finds none; CUDA_VISIBLE_DEVICES= trains on the CPU"
        )
    hides_none = name is None and settings.visible_gpus() is None
    if device.type == "cpu" and hides_none and (file := nvidia.device_file()):
        raise DeviceError(
            f"this machine has {file}, but torch finds no GPU; CUDA_VISIBLE_DEVICES= trains on the CPU"
        )
    if device.type == "cuda":
        torch.cuda.set_device(device)
        require_usable(device, recipe)
        if recipe.precision == "auto" and training_type(recipe, device) is torch.float32:
            logger.warning(
                "%s has no bfloat16: trainings compute in float32", torch.cuda.get_device_name(device)
            )
    return device
