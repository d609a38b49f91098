"""A GPU that is none: tensors without values that say they are on it (torch's FakeTensorMode).

What an operator is asked is noted: what a GPU would be waited for, and tensors of two devices in one call.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainer import loop
from trainer.augmentation import policy
from trainer.constants import constant
from trainer.data import batches

GPU = torch.device("cuda", 0)
# Their result has as many numbers as were found, or is a number of the host.
WAITS = {
    *("_local_scalar_dense", "is_nonzero", "equal", "allclose", "nonzero", "nonzero_numpy", "masked_select"),
    *("_unique2", "unique_dim", "unique_consecutive", "bincount", "repeat_interleave"),
}
COPIES = ("_to_copy", "copy_", "lift_fresh", "lift_fresh_copy", "_copy_from")
FUSED = (
    "_fused_sgd_",
    "_fused_adam_",
    "_fused_adamw_",
)  # torch has no fake one that takes the rate as a tensor
DRAWS = ("_sample_dirichlet", "_standard_gamma")  # fake tensors have none, and would ask a real GPU for it


class Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes what waits, and what mixes devices. Numbers of the host are made up, by turns."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.waits: list[str] = []
        self.mixed: list[str] = []
        self.on_gpu = self.turn = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().removeprefix("aten::").split(".")[0]
        given = [leaf for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, Tensor)]
        if name in DRAWS:
            return torch.empty_like(args[0])
        result = None
        if (name in WAITS or self._counts_truths(name, args)) and any(one.is_cuda for one in given):
            self.waits.append(name)
        if name == "_local_scalar_dense":
            return self._number(args[0])
        if name not in FUSED:
            result = func(*args, **kwargs or {})
        found = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        places = {one.device.type for one in [*given, *found]}
        if "cuda" not in places:
            return result
        self.on_gpu += 1
        if name in COPIES and "cpu" in places:
            self.waits.append(name)
        elif "cpu" in {one.device.type for one in [*given, *found] if one.ndim}:
            self.mixed.append(name)
        return result

    def _number(self, of: Tensor) -> float | int | bool:
        self.turn += 1
        if of.dtype == torch.bool:
            return self.turn % 2 == 0
        return 0.3 if of.dtype.is_floating_point else 1

    @staticmethod
    def _counts_truths(name: str, args: Any) -> bool:
        """An index of truths is counted first, unless one number is put in their places."""
        if name not in ("index", "index_put", "index_put_", "_index_put_impl_"):
            return False
        is_fill = name != "index" and args[2].numel() == 1 and len(args[1]) == 1
        return not is_fill and any(of is not None and of.dtype == torch.bool for of in args[1])


class TorchOfTheHost:
    """torch, but that a generator is one of the host: one of a GPU would ask the GPU."""

    def __getattr__(self, name: str) -> Any:
        return (lambda _: torch.Generator()) if name == "Generator" else getattr(torch, name)


@contextmanager
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Within, torch has a GPU of which nothing can be asked but shapes, types and devices."""
    monkeypatch.setattr(loop, "torch", TorchOfTheHost())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _=None: (9, 0))
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    caches = (constant, policy._pairs, batches.on_device)
    with ExitStack() as stack:
        for cache in caches:
            cache.cache_clear()
            stack.callback(cache.cache_clear)
        mode = FakeTensorMode(allow_non_fake_inputs=True)
        mode.cache_enabled = False  # torch 2.15 has crashed in looking up what it had kept
        stack.enter_context(mode)
        yield
