"""Nothing inside an epoch waits for the device: no number is asked of it, and no constant sent to it.

Told by the operators that are carried out, on the CPU. MixUp and CutMix draw their share on the host, which
cannot be told apart here: they are left out.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from space.architecture import Architecture, Stage, Stem
from trainer import loop
from trainer.augmentation import policy
from trainer.constants import constant
from trainer.data import dataset as datasets
from trainer.data.batches import Normalisation
from trainer.recipe.document import Recipe
from trainer.recipe.policies import POLICIES

WAITS = {
    *("_local_scalar_dense", "item", "is_nonzero", "equal", "allclose", "nonzero", "nonzero_numpy"),
    *("masked_select", "_unique2", "unique_dim", "unique_consecutive", "bincount", "repeat_interleave"),
    *("lift_fresh", "lift_fresh_copy"),  # a tensor made of numbers of the host
}


class Waiting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The names of operators for which a GPU would be waited for."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """torch's compiler is not loaded, which takes half a minute."""
        return False

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().removeprefix("aten::").split(".")[0]
        if name in WAITS or self._chooses_by_truths(name, args) or self._moves(name, args, kwargs or {}):
            self.found.append(name)
        return func(*args, **kwargs or {})

    @staticmethod
    def _chooses_by_truths(name: str, args: Any) -> bool:
        """An index of truths is counted first, unless one number is put in their places."""
        if name not in ("index", "index_put", "index_put_", "_index_put_impl_"):
            return False
        is_fill = name != "index" and args[2].numel() == 1 and len(args[1]) == 1
        return not is_fill and any(of is not None and of.dtype == torch.bool for of in args[1])

    @staticmethod
    def _moves(name: str, args: Any, kwargs: Any) -> bool:
        return name == "_to_copy" and kwargs.get("device") not in (None, args[0].device)


def waits_of(action: Callable[[], object]) -> list[str]:
    with Waiting() as told:
        action()
    return told.found


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (lambda x: x.sum().item(), ["_local_scalar_dense"]),
        (lambda x: x.nonzero(), ["nonzero"]),
        (lambda x: x[x > 1], ["index"]),
        (lambda x: torch.tensor([1.0]), ["lift_fresh"]),
        (lambda x: x.to("meta"), ["_to_copy"]),
        (lambda x: bool((x > 1).any()), ["_local_scalar_dense"]),
        (lambda x: x.masked_fill(x > 1, 0.0), []),
    ],
)
def test_what_waits_is_told(action: Callable[[Tensor], object], expected: list[str]) -> None:
    x = torch.arange(4.0)
    assert waits_of(lambda: action(x)) == expected


@pytest.fixture(scope="module")
def coloured() -> datasets.Dataset:
    dice = torch.Generator().manual_seed(0)
    return datasets.Dataset(
        spec="noise",
        name="noise",
        classes=tuple("abcdefghij"),
        image_size=8,
        channels=3,
        digest="noise",
        images=torch.randint(256, (120, 8, 8, 3), generator=dice, dtype=torch.uint8).numpy(),
        labels=torch.randint(10, (120,), generator=dice).numpy(),
        cache=Path("nowhere"),
    )


RECIPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "muon": {"optimizer": "muon"},
    "float32": {"precision": "float32", "crop_edge": "zero", "clip_value": 1.0},
    "everything drawn": {
        "enlarge": 12,
        "flip_vertical": True,
        "rotation": 15,
        "cutout": 4,
        "random_erasing": 0.5,
        "ema": 0.9,
        "clip_norm": 1.0,
        "decay_vectors": True,
    },
    **{name: {"policy": name} for name in POLICIES},
    "views": {"policy": "augmix", "jensen_shannon": 12.0},
}


@pytest.mark.parametrize("name", RECIPES)
def test_nothing_in_an_epoch_waits_for_the_device(
    name: str, coloured: datasets.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "GATHERS", ())
    recipe = Recipe(epochs=2, batch_size=25, crop_padding=1, **{"precision": "bfloat16", **RECIPES[name]})
    network = Architecture(channels=3, image_size=8, stem=Stem(width=8), stages=(Stage(blocks=1, width=8),))
    waited: list[list[str]] = []
    train = loop._Run._train

    def told(run: loop._Run) -> float:
        """The epoch without its end, where its loss is asked for: once, and of all batches."""
        with Waiting() as waiting:
            loss = train(run)
        assert waiting.found[-1:] == ["_local_scalar_dense"]
        waited.append(waiting.found[:-1])
        return loss

    monkeypatch.setattr(loop._Run, "_train", told)
    loop.fit(network, recipe, coloured, datasets.split(coloured, 0), seed=0)
    assert waited[1] == [], "and in the first epoch only constants were made"
    assert set(waited[0]) <= {"lift_fresh"}


@pytest.mark.parametrize("timed", [True, False])
def test_cudnn_tries_its_algorithms_in_the_trainings_for_which_it_is_asked_to(
    timed: bool, coloured: datasets.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def choices(_device: torch.device, *, timed: bool) -> AbstractContextManager[None]:
        asked.append(timed)
        return nullcontext()

    monkeypatch.setattr(loop, "cudnn_choices", choices)
    network = Architecture(channels=3, image_size=8, stem=Stem(width=8), stages=(Stage(blocks=1, width=8),))
    loop.fit(
        network, Recipe(epochs=1, batch_size=25), coloured, datasets.split(coloured, 0), seed=0, timed=timed
    )
    assert asked == [timed]


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_policy_changes_images_alike_whether_they_are_gathered_or_not(
    name: str, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randint(256, (40, channels, 12, 12), dtype=torch.uint8)

    def changed() -> Tensor:
        torch.manual_seed(5)
        return policy.apply_policy(x, POLICIES[name](), torch.Generator().manual_seed(7))

    gathered = changed()
    monkeypatch.setattr(policy, "GATHERS", ())
    assert torch.equal(changed(), gathered)


def test_a_constant_is_made_once_and_serves_evaluation_and_training() -> None:
    values, cpu = (0.25, 0.5), torch.device("cpu")
    with torch.inference_mode():
        first = constant(values, cpu)
    assert constant(values, cpu) is first
    assert not first.is_inference()
    assert (first.tolist(), first.dtype) == ([0.25, 0.5], torch.float32)
    x = torch.full((1, 2, 1, 1), 2, dtype=torch.uint8)
    assert Normalisation((1.0, 3.0), (0.5, 2.0)).apply(x).flatten().tolist() == [2.0, -0.5]
