"""Whole epochs on a GPU of fake tensors: everything is there, and nothing is waited for. No GPU is needed.

What a CPU's operators say of it stands in test_waiting.py, the backward pass included, which torch carries
out on real GPUs alone; here draws of the host (MixUp, CutMix) and copies between host and GPU can be told
apart.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_gpu import GPU, Operators, fake_gpu
from recipe_samples import noise
from torch import Tensor
from torch._subclasses.fake_tensor import DynamicOutputShapeException

from space.architecture import Architecture, Block, Head, Stage, Stem
from trainer import initialisation, loop, step_graph
from trainer.callbacks import NO_CALLBACKS
from trainer.data.batches import feed
from trainer.recipe.document import Recipe
from trainer.recipe.policies import POLICIES

pytestmark = [
    pytest.mark.thorough,  # fake tensors take half a minute to load
    pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor"),  # by copy.deepcopy
]
NETWORK = Architecture(
    channels=3,
    image_size=8,
    stem=Stem(width=8),
    block=Block(dropout=0.2),
    stages=(Stage(blocks=1, width=8), Stage(blocks=1, width=16, stride=2)),
    head=Head(dropout=0.1),
)
RECIPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "mixed": {"mixup": 0.2, "cutmix": 1.0, "cutout": 4, "random_erasing": 0.5},
    "everything drawn": {"enlarge": 12, "flip_vertical": True, "rotation": 15, "drop_path": 0.2, "ema": 0.9},
    "clipped": {"clip_norm": 1.0, "crop_edge": "zero"},
    "adamw": {"optimizer": "adamw", "clip_value": 1.0},
    "not fused": {"optimizer": "rmsprop"},
    "float32": {"precision": "float32"},
    **{name: {"policy": name} for name in POLICIES},
    "views": {"policy": "augmix", "jensen_shannon": 12.0},
}


class Again:
    """Stands for what records a step: the step is called anew, on the tensors of its recording."""

    def warm_up(self, action: Callable[[], None]) -> None:
        action()

    def record(self, action: Callable[[], None]) -> Callable[[], None]:
        return action


def epochs(
    recipe: Recipe, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[loop._Run, list[Operators]]:
    """Two epochs of two steps, and what each asked of the GPU."""
    dataset, split = noise(NETWORK, 20, folder)
    with torch.device(GPU):
        network = initialisation.network(NETWORK, recipe)
    images = feed.__wrapped__(dataset, split, GPU)
    make = Again() if step_graph.is_recordable(recipe) else None

    def backward(_: Tensor) -> None:
        for parameter in network.parameters():
            parameter.grad = torch.empty_like(parameter)

    monkeypatch.setattr(Tensor, "backward", backward)
    run = loop._Run(network, recipe, images, GPU, 0, NO_CALLBACKS, True, None, lambda *_: make)
    asked = []
    for _ in range(2):
        with Operators() as operators:
            run._train()
        asked.append(operators)
    return run, asked


@pytest.mark.parametrize("name", RECIPES)
def test_an_epoch_runs_on_the_gpu_and_waits_for_it_at_its_end_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe.model_validate({"epochs": 2, "batch_size": 8, "crop_padding": 1} | RECIPES[name])
    with fake_gpu(monkeypatch):
        run, (first, second) = epochs(recipe, tmp_path, monkeypatch)
    assert second.on_gpu > 100
    assert second.waits == ["_local_scalar_dense"], "its loss, once and of all batches"
    assert set(first.waits[:-1]) <= {"lift_fresh", "_to_copy"}, "and in the first epoch constants were made"
    assert first.mixed == second.mixed == []
    assert {one.device for one in run.judged.state_dict().values()} == {GPU}
    assert run.plain_step.precision is (torch.float32 if name == "float32" else torch.bfloat16)


@pytest.mark.parametrize(
    ("action", "waits"),
    [
        (lambda x: x.sum().item(), ["_local_scalar_dense"]),
        (lambda x: x[x > 1], ["index"]),
        (lambda x: x + torch.tensor([1.0]).to(GPU), ["_to_copy"]),
        (lambda x: x.copy_(torch.ones(4, device="cpu")), ["copy_"]),
        (lambda x: x.cpu(), ["_to_copy"]),
        (lambda x: x.fill_(float(torch.rand((), device="cpu"))), []),
    ],
)
def test_what_waits_is_told(
    action: Callable[[Tensor], object], waits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_gpu(monkeypatch):
        x = torch.ones(4, device=GPU)
        with Operators() as operators, suppress(DynamicOutputShapeException):
            action(x)
    assert operators.waits == waits
