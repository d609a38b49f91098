"""A lack of memory is one kind of error, whatever raised it."""

import gc
import weakref

import pytest
import torch

from trainer.device import memory_errors

TOO_MUCH = 1 << 58  # bytes: no machine has them


def test_more_than_there_is_raises_a_memory_error_of_one_line() -> None:
    with pytest.raises(MemoryError, match="can't allocate memory") as caught, memory_errors():
        torch.empty(TOO_MUCH, dtype=torch.uint8)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("no more"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: out of memory"),
    ],
)
def test_what_libraries_say_of_it_is_understood(error: Exception) -> None:
    with pytest.raises(MemoryError), memory_errors():
        fail(error)


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="sizes do not match"), memory_errors():
        fail(RuntimeError("sizes do not match"))


def fail(error: Exception) -> None:
    raise error


def test_nothing_of_the_training_is_held_by_the_error() -> None:
    held: list[weakref.ref[torch.Tensor]] = []

    def train() -> None:
        weights = torch.zeros(10)
        held.append(weakref.ref(weights))
        torch.empty(TOO_MUCH, dtype=torch.uint8)

    with pytest.raises(MemoryError) as caught, memory_errors():
        train()
    gc.collect()
    assert held[0]() is None
    assert caught.value.__context__ is None
