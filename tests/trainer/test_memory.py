"""A lack of memory is one kind of error, whatever raised it."""

import gc
import re
import weakref

import pytest
import torch

from trainer.device import memory_errors, released_afterwards

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
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA driver error: CUDA_ERROR_OUT_OF_MEMORY"),
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


GIB = 1 << 30


def as_a_gpu(monkeypatch: pytest.MonkeyPatch, free: int, fraction: float = 1.0, reserved: int = 0) -> None:
    """torch says that there is a GPU of 80 GiB, of which so many bytes are free."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free, 80 * GIB))
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda: fraction)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: reserved)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)


@pytest.mark.parametrize(
    "said",
    [
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
        "GET was unable to find an engine to execute this computation",
    ],
)
def test_what_may_be_of_memory_is_so_where_little_is_free(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    as_a_gpu(monkeypatch, free=GIB // 2)
    with pytest.raises(MemoryError), memory_errors():
        fail(RuntimeError(said))
    as_a_gpu(monkeypatch, free=20 * GIB, fraction=0.125, reserved=10 * GIB - 1)
    with pytest.raises(MemoryError), memory_errors():
        fail(RuntimeError(said))
    as_a_gpu(monkeypatch, free=20 * GIB)
    with pytest.raises(RuntimeError, match=re.escape(said)), memory_errors():
        fail(RuntimeError(said))


def lost(*_: object) -> None:
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def test_a_gpu_that_says_nothing_any_more_is_not_short_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    as_a_gpu(monkeypatch, free=0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lost)
    with pytest.raises(RuntimeError, match="CUDNN_STATUS_NOT_INITIALIZED"), memory_errors():
        fail(RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"))


class Pruned(Exception):
    pass


def test_a_gpu_has_its_memory_back_when_a_trial_has_ended_or_was_pruned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held: list[weakref.ref[torch.Tensor]] = []
    still_held: list[bool] = []

    def train(pruned: bool) -> None:
        weights = torch.zeros(10)
        held.append(weakref.ref(weights))
        if pruned:
            raise Pruned

    as_a_gpu(monkeypatch, free=0)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: still_held.append(held[-1]() is not None))
    with released_afterwards(torch.device("cuda")):
        train(pruned=False)
    with pytest.raises(Pruned), released_afterwards(torch.device("cuda")):
        train(pruned=True)
    assert still_held == [False, False]
    with released_afterwards(torch.device("cpu")):
        train(pruned=False)
    assert len(still_held) == 2


def test_an_error_of_a_lost_gpu_is_not_hidden_by_the_release(monkeypatch: pytest.MonkeyPatch) -> None:
    as_a_gpu(monkeypatch, free=0)
    monkeypatch.setattr(torch.cuda, "empty_cache", lost)
    with pytest.raises(Pruned), released_afterwards(torch.device("cuda")):
        raise Pruned
