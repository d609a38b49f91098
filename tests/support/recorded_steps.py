"""Stand-ins on the CPU for what records a CUDA graph (trainer/step_graph.py)."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainer import optimizers
from trainer.recipe.document import Recipe


def tensors(of: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(of) if isinstance(leaf, Tensor)]


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps every operator with its arguments and results, and what was in the arguments before."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """torch's compiler is not loaded, which takes half a minute."""
        return False

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[Callable[..., Any], Any, Any, list[Tensor], list[bool]]] = []
        self.before: dict[int, tuple[Tensor, Tensor]] = {}
        self.made: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = tensors((args, kwargs or {}))
        places = {one.untyped_storage().data_ptr() for one in given}
        for one in given:
            if one.untyped_storage().data_ptr() not in self.made | set(self.before):
                self.before[one.untyped_storage().data_ptr()] = (one, one.clone())
        results = func(*args, **kwargs or {})
        found = tensors(results)
        is_new = [one.untyped_storage().data_ptr() not in places for one in found]
        self.made |= {one.untyped_storage().data_ptr() for one, new in zip(found, is_new, strict=True) if new}
        self.calls.append((func, args, kwargs or {}, found, is_new))
        return results


class OperatorRecorder:
    """Repeats the very operators, on the very tensors and with the very numbers of the host, as a graph does.

    Afterwards everything is as it was before the recording: as on a GPU, it did nothing.
    """

    def __init__(self) -> None:
        self.warmed = self.recorded = self.replayed = 0
        self.names: list[str] = []  # of the operators that were recorded

    def warm_up(self, action: Callable[[], None]) -> None:
        self.warmed += 1
        action()

    def record(self, action: Callable[[], None]) -> Callable[[], None]:
        self.recorded += 1
        state, seen = torch.get_rng_state(), _Operators()
        with seen:
            action()
        self.names = [call[0].name().removeprefix("aten::").split(".")[0] for call in seen.calls]  # type: ignore[attr-defined]
        with torch.no_grad():
            for tensor, before in seen.before.values():
                tensor.copy_(before)
        torch.set_rng_state(state)

        def replay() -> None:
            self.replayed += 1
            with torch.no_grad():
                for func, args, kwargs, found, is_new in seen.calls:
                    again = tensors(func(*args, **kwargs))
                    for one, now, new in zip(found, again, is_new, strict=True):
                        if new:
                            one.copy_(now)

        return replay


class FailingRecorder(OperatorRecorder):
    """Begins to record, and fails as CUDA does."""

    def record(self, action: Callable[[], None]) -> Callable[[], None]:
        super().record(action)
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nCompile with ...")


class IdleRecorder(OperatorRecorder):
    """Records, and what it then repeats is nothing."""

    def record(self, action: Callable[[], None]) -> Callable[[], None]:
        super().record(action)
        return lambda: None


def step_as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Optimizers are torch's fused ones, and read the rate from a tensor."""

    def is_fused(recipe: Recipe, _: torch.device) -> bool:
        return recipe.optimizer in optimizers.FUSED

    monkeypatch.setattr(optimizers, "is_fused", is_fused)
