"""Random recipes: a hypothesis strategy for every option, and images of any shape to train on."""

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from space.architecture import Architecture
from trainer.data.dataset import Dataset, Split
from trainer.recipe.document import Recipe
from trainer.recipe.optimizer_defaults import COUPLED, OPTIMIZER_DEFAULTS, WITH_BETAS, WITH_MOMENTUM

EPOCHS = st.floats(0.5, 5)
SHARES = st.sampled_from((0.0, 0.1, 0.5))
WARM_UPS = {"unit": st.sampled_from(("step", "epoch")), "warm_up": SHARES}
LENGTHS = {"length": st.none() | EPOCHS}
MISTAKES = ("one_cycle_per_epoch", "short_schedule", "coupled_decay", "softmax", "training_mode")


def table(name: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"name": st.just(name)}, optional=WARM_UPS | fields)


SCHEDULES = st.one_of(
    st.sampled_from(("one_cycle", "cosine", "cosine_restarts", "linear", "polynomial", "constant")),
    table("one_cycle", rise=SHARES, start=SHARES, final=SHARES, momentum=st.just((0.85, 0.95)), **LENGTHS),
    table("cosine", minimum=st.sampled_from((0.0, 1e-6)), **LENGTHS),
    table("cosine_restarts", first=EPOCHS, growth=st.integers(1, 3)),
    table("linear", final=st.floats(0, 1), **LENGTHS),
    table("polynomial", power=st.floats(0.5, 4), **LENGTHS),
    table("step", factor=st.floats(0.01, 0.9)).map(lambda given: given | {"every": 1}),
)
POLICIES = st.one_of(
    st.sampled_from(("randaugment", "trivialaugment", "autoaugment", "augmix")),
    st.fixed_dictionaries(
        {"name": st.just("randaugment"), "operations": st.integers(1, 3), "magnitude": st.integers(0, 30)}
    ),
    st.fixed_dictionaries(
        {
            "name": st.just("augmix"),
            "width": st.integers(1, 4),
            "depth": st.integers(0, 3),
            "severity": st.integers(1, 10),
            "every_operation": st.booleans(),
        }
    ),
)


@st.composite
def recipes(draw: st.DrawFn, size: int, channels: int) -> Recipe:
    """Any recipe that images of so many pixels and channels can be trained with; rates are usual ones."""
    optimizer = draw(st.sampled_from(sorted(OPTIMIZER_DEFAULTS)))
    usual = OPTIMIZER_DEFAULTS[optimizer]
    given: dict[str, Any] = {
        "optimizer": optimizer,
        "learning_rate": draw(st.floats(usual.lowest, usual.highest)),
        "weight_decay": draw(st.sampled_from((0.0, 1e-4, 0.01))),
        "schedule": draw(SCHEDULES),
        "accept": MISTAKES,
    }
    flags = ("decay_vectors", "flip", "flip_vertical", "evaluate_in_training_mode")
    given |= {flag: draw(st.booleans()) for flag in flags}
    given |= draw(_of_optimizer(optimizer))
    given |= draw(_of_images(size, channels))
    given |= draw(_of_loss(given.get("policy")))
    return Recipe.model_validate(given)


def _of_optimizer(optimizer: str) -> st.SearchStrategy[dict[str, Any]]:
    options: dict[str, st.SearchStrategy[Any]] = {"ema": st.sampled_from((0.0, 0.9, 0.999))}
    options |= {"initial": st.sampled_from(("residual", "torch")), "drop_path": SHARES}
    options |= {"dropout": st.fixed_dictionaries({}, optional={"block_end": SHARES, "head": SHARES})}
    if optimizer in WITH_MOMENTUM:
        momenta = st.sampled_from((0.5, 0.9))
        options |= {"momentum": momenta}
    if optimizer in WITH_BETAS:
        options |= {"betas": st.just((0.8, 0.99))}
    if optimizer in COUPLED:
        options |= {"epsilon": st.just(1e-6)}
    clips = st.sampled_from(({}, {"clip_value": 0.1}, {"clip_norm": 1.0}))
    return st.builds(dict.__or__, st.fixed_dictionaries({}, optional=options), clips)


def _of_images(size: int, channels: int) -> st.SearchStrategy[dict[str, Any]]:
    options: dict[str, st.SearchStrategy[Any]] = {
        "crop_edge": st.just("zero"),
        "rotation": st.sampled_from((0.0, 20.0)),
        "cutout": st.integers(0, size - 1),
        "random_erasing": st.sampled_from((0.0, 0.25, 1.0)) if size > 1 else st.just(0.0),
        "normalisation": st.sampled_from(("none", "measured")),
    }
    if size >= 4:
        options["enlarge"] = st.integers(size, 40)
    if channels in (1, 3):
        options["policy"] = POLICIES
    if channels == 3:
        options["normalisation"] = st.sampled_from(("none", "measured", "cifar10", "imagenet"))
    padding = st.integers(0, min(4, size - 1))
    return st.fixed_dictionaries({"crop_padding": padding}, optional=options)


def _of_loss(policy: Any) -> st.SearchStrategy[dict[str, Any]]:
    kinds: list[dict[str, Any]] = [{}, {"mixup": 0.2}, {"cutmix": 1.0}, {"mixup": 1.0, "cutmix": 1.0}]
    if policy == "augmix" or (isinstance(policy, dict) and policy["name"] == "augmix"):
        kinds = [*kinds, {"jensen_shannon": 12.0}, {"jensen_shannon": 12.0}]
    smoothing = st.fixed_dictionaries({"label_smoothing": SHARES})
    return st.builds(dict.__or__, smoothing, st.sampled_from(kinds))


def noise(architecture: Architecture, count: int, folder: Path) -> tuple[Dataset, Split]:
    """Images that the network fits, one half to train on and one to validate on."""
    random = np.random.default_rng(0)
    side, channels = architecture.image_size, architecture.channels
    dataset = Dataset(
        spec="noise",
        name="noise",
        classes=tuple(map(str, range(architecture.classes))),
        image_size=side,
        channels=channels,
        digest="noise",
        images=random.integers(0, 256, (2 * count, side, side, channels), dtype=np.uint8),
        labels=random.integers(0, architecture.classes, 2 * count),
        cache=folder,
    )
    half = np.arange(count, dtype=np.int64)
    return dataset, Split(f"{side} {channels} {architecture.classes} {count}", half, half + count)
