"""Epochs on a GPU of fake tensors, in a process of its own: says of each recipe what it asked of the GPU.

    python tests/support/fake_epochs.py FOLDER

A line of JSON a recipe, and one for each of the actions of which is known whether they wait. Started by
tests/trainer/test_on_fake_gpu.py: torch 2.15 crashes when it clears away graphs of fake tensors that say they
are on a GPU, so here nothing is cleared away.
"""

import gc
import json
import os
import sys
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
    run = loop._Run(network, recipe, images, GPU, 0, NO_CALLBACKS, None, lambda *_: make)
    asked = []
    for _ in range(2):
        with Operators() as operators:
            run._train()
        asked.append(operators)
    return run, asked


# Of each: what is told of it.
ACTIONS: dict[str, Callable[[Tensor], object]] = {
    "_local_scalar_dense": lambda x: x.sum().item(),
    "index": lambda x: x[x > 1],
    "_to_copy": lambda x: x + torch.tensor([1.0]).to(GPU),
    "copy_": lambda x: x.copy_(torch.ones(4, device="cpu")),
    "": lambda x: x.fill_(float(torch.rand((), device="cpu"))),
}


def told(action: Callable[[Tensor], object]) -> list[str]:
    """What waits in an action on a tensor of the GPU."""
    x = torch.ones(4, device=GPU)
    with Operators() as operators, suppress(DynamicOutputShapeException):
        action(x)
    return operators.waits


def main(folder: Path) -> None:
    gc.disable()
    for name, action in ACTIONS.items():
        with pytest.MonkeyPatch.context() as patch, fake_gpu(patch):
            say(action=name, waits=told(action))
    for name, fields in RECIPES.items():
        recipe = Recipe.model_validate({"epochs": 2, "batch_size": 8, "crop_padding": 1} | fields)
        with pytest.MonkeyPatch.context() as patch, fake_gpu(patch):
            run, asked = epochs(recipe, folder, patch)
            say(
                recipe=name,
                waits=[one.waits for one in asked],
                mixed=[one.mixed for one in asked],
                on_gpu=asked[1].on_gpu,
                devices=sorted({str(one.device) for one in run.judged.state_dict().values()}),
                precision=str(run.plain_step.precision),
            )
            kept.append(run)


kept: list[object] = []  # whatever a run holds stays there


def say(**found: Any) -> None:
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    os._exit(0)
