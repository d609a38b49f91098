"""Builds the optimizer of a recipe, sets its rate, clips gradients and steps it.

Takes a network and a recipe, changes the network's weights. Called by trainer/training_step.py. It
knows no schedule.

Nothing is compiled here, so torch's compiler is not loaded. torch's optimizers load it merely to keep it away
from some of their methods, which costs every process a second or more and 150 MB. That is prevented where
torch is as it was when this was tested, and else left as it is: slower, with the same numbers.
"""

import inspect
import logging
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from trainer.model import Convolution
from trainer.muon import Muon, matrices_of
from trainer.recipe.document import Recipe
from trainer.recipe.optimizer_defaults import WITH_BETAS, WITH_MOMENTUM, WITH_NESTEROV


def build(network: nn.Module, recipe: Recipe, device: torch.device) -> torch.optim.Optimizer:
    """The optimizer of the recipe; vectors (biases, scales and shifts of norms) decay only if it says so."""
    matrices = list(matrices_of(network, Convolution)) if recipe.optimizer == "muon" else []
    orthogonal = {id(weight) for weight, _ in matrices}
    wide = [p for p in network.parameters() if p.ndim > 1 and id(p) not in orthogonal]
    narrow = [p for p in network.parameters() if p.ndim <= 1]
    groups = [
        {"params": wide, "weight_decay": recipe.weight_decay},
        {"params": narrow, "weight_decay": recipe.weight_decay if recipe.decay_vectors else 0.0},
    ]
    fused = is_fused(recipe, device)
    _keep_compiler_out()
    if recipe.optimizer == "muon":
        return Muon(matrices, groups, lr=recipe.learning_rate, fused=fused, **_arguments(recipe))
    given = _arguments(recipe) | ({"fused": True, "foreach": False} if fused else {"foreach": True})
    if fused and recipe.optimizer in WITH_BETAS:
        given["capturable"] = (
            True  # counts its steps on the device: what a CUDA graph repeats is another step
        )
    kind: type[torch.optim.Optimizer] = getattr(torch.optim, CLASSES[recipe.optimizer])
    return kind(groups, lr=recipe.learning_rate, **given)  # type: ignore[call-arg]


def is_fused(recipe: Recipe, device: torch.device) -> bool:
    """Whether torch steps this optimizer by one operator, which reads the rate from the device."""
    return device.type == "cuda" and recipe.optimizer in FUSED


FUSED = ("sgd", "muon", "adam", "adamw")
CLASSES = {
    "sgd": "SGD",
    "adam": "Adam",
    "adamw": "AdamW",
    "radam": "RAdam",
    "rmsprop": "RMSprop",
    "adagrad": "Adagrad",
    "adadelta": "Adadelta",
}


def _keep_compiler_out() -> None:
    """Marks methods as those that torch's compiler has been told to leave alone (torch/_compile.py)."""
    if not _is_known():
        return
    for name in DISABLED:
        plain = inspect.unwrap(getattr(torch.optim.Optimizer, name))
        vars(plain).setdefault(MARK, plain)


# Methods that torch keeps its compiler from.
DISABLED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
MARK = "__dynamo_disable"  # attribute of such a method: what to call in its place


@cache
def _is_known() -> bool:
    """Whether this torch wraps its methods as 2.15 does, with a mark that we can set; says once if not."""
    inner = getattr(torch, "_disable_dynamo", lambda plain: plain)(lambda: None)
    known = MARK in getattr(getattr(inner, "__code__", None), "co_consts", ()) and all(
        hasattr(getattr(torch.optim.Optimizer, name), "__wrapped__") for name in DISABLED
    )
    if not known:
        logging.getLogger(__name__).warning(
            "torch %s is not as it was tested: its optimizers load its compiler, slower and with the same"
            " numbers",
            torch.__version__,
        )
    return known


def _arguments(recipe: Recipe) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if recipe.optimizer in WITH_MOMENTUM:
        found["momentum"] = recipe.momentum
    if recipe.optimizer in WITH_NESTEROV:
        found["nesterov"] = recipe.nesterov
    if recipe.betas:
        found["betas"] = recipe.betas
    if recipe.epsilon is not None:
        found["eps"] = recipe.epsilon
    return found


def set_rate(optimizer: torch.optim.Optimizer, rate: float | Tensor, momentum: float | None) -> None:
    """Sets the rate of the next step, and its momentum (first beta of Adam's kin) unless that is None.

    A rate that is a tensor, () float32 on the device, is for a fused optimizer.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate
        if momentum is not None and "momentum" in group:
            group["momentum"] = momentum
        if momentum is not None and "betas" in group:
            group["betas"] = (momentum, group["betas"][1])


def clip_gradients(network: nn.Module, recipe: Recipe) -> None:
    """Bounds the gradients as the recipe says: each value, or the norm of all (arXiv 1211.5063, 2012)."""
    if recipe.clip_value:
        nn.utils.clip_grad_value_(network.parameters(), recipe.clip_value)
    if recipe.clip_norm:
        nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)


def advance(optimizer: torch.optim.Optimizer) -> None:
    """optimizer.step(), without the wrappers that serve profilers, hooks and the compiler."""
    if not _is_known():
        optimizer.step()
        return
    with torch.no_grad():
        inspect.unwrap(type(optimizer).step)(optimizer)
