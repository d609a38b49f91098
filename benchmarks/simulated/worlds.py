"""What a simulated training returns: a formula over the exact costs, or recorded learning curves.

A world turns an architecture into a learning curve, its true accuracy, and the seconds of an epoch. Made by
suite.py, asked by simulator.py; knows no sampler, no pruner and no clock.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from itertools import pairwise
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.simulated.features import features
from benchmarks.simulated.forest import Forest
from benchmarks.simulated.table import Entry, Table
from space.architecture import Architecture
from space.budget import Budget
from space.space import SearchSpace, Task

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Candidate:
    """A proposal and what it costs; `violations` are relative excesses over the budget, <= 0 is inside."""

    architecture: Architecture
    fingerprint: str
    parameters: int
    macs: int
    violations: dict[str, float]

    @property
    def fits(self) -> bool:
        return all(violation <= 0 for violation in self.violations.values())


# Losses with their sign turned; "both losses" is the sum of the two.
Reading = Literal["accuracy", "cross-entropy", "training loss", "both losses"]
WORST = -1e3  # of a loss, where a training diverged


@dataclass(frozen=True)
class Learning:
    """`curve`: validation accuracy 0..1 after each epoch, as a training reports it; `truth`: what the network
    is worth, which no search sees; `seconds` of one epoch. `loss` of the validation images and
    `training_loss`, one value an epoch, are there where a world has them."""

    curve: tuple[float, ...]
    truth: float
    seconds: float
    loss: tuple[float, ...] = ()
    training_loss: tuple[float, ...] = ()

    def read(self, reading: Reading) -> tuple[float, ...]:
        """One value an epoch, higher is better."""
        if reading == "accuracy":
            return self.curve
        pairs = zip(self.loss, self.training_loss, strict=True) if self.training_loss else ()
        losses = {
            "cross-entropy": self.loss,
            "training loss": self.training_loss,
            "both losses": tuple(sum(pair) for pair in pairs),
        }[reading]
        return tuple(-loss for loss in losses) or (WORST,) * len(self.curve)


class World(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def epochs(self) -> int: ...

    @property
    def space(self) -> SearchSpace: ...

    @property
    def budget(self) -> Budget: ...

    @property
    def task(self) -> Task: ...

    def learn(self, candidate: Candidate, seed: int) -> Learning: ...


def generator(*parts: object) -> np.random.Generator:
    """Random numbers that depend on these parts alone: the same network has the same luck in a search."""
    digest = sha256(repr(parts).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


@dataclass(frozen=True)
class Formula:
    """A made-up accuracy over exact parameters and multiply-accumulates: 95.5% at best, in every landscape.

    Each seed draws its own landscape (which depth, kernels, ratios and extras are best, and how much each
    matters), so that no one shape of the formula decides. Deep networks start slowly; the final noise of 0.3
    points is that of five runs of one CIFAR-10 recipe.

    A block of any kind is as many layers as its main branch has convolutions, and its kernel is that of the
    stage: the 1x1 convolutions of a bottleneck are not held against it. Which kind, shortcut, growth and
    order of layers is best is an extra of the landscape like others; expansion and groups count by nothing
    but the exact costs, which the width makes up for. Nothing is best because a space weights it so.
    """

    space: SearchSpace
    budget: Budget = field(default_factory=Budget)
    task: Task = field(default_factory=Task)
    epochs: int = 30
    name: str = "formula"
    noise: float = 0.003
    best: float = 0.955

    def learn(self, candidate: Candidate, seed: int) -> Learning:
        architecture, name = candidate.architecture, candidate.fingerprint
        truth = max(0.2, self.best - self._deficit(candidate, seed))
        luck = generator("luck", seed, name)
        layers = sum(stage.blocks for stage in architecture.stages) * architecture.block.depth
        rate = 3.5 / (1 + layers / 40) * math.exp(0.25 * generator("rate", name).normal())
        progress = np.arange(1, self.epochs + 1) / self.epochs
        # One cycle: what is left to learn shrinks steadily, and the last third, at low rates, brings most.
        left = (1 - progress) * np.exp(-rate * progress)
        wobble = self.noise * (1 + 4 * (1 - progress)) * luck.normal(size=self.epochs)
        curve = truth - (truth - 0.1) * left + wobble
        return Learning(tuple(np.clip(curve, 0, 1).tolist()), truth, 3 + candidate.macs / 60e6 + 0.1 * layers)

    def _deficit(self, candidate: Candidate, seed: int) -> float:
        """Share of accuracy lost, 0 at best; every weight and every optimum is the landscape's."""
        architecture = candidate.architecture
        land = generator("landscape", seed)
        want_layers, want_ratio = land.uniform(12, 40), land.uniform(1.3, 2.2)
        weights = land.uniform(0.5, 1.5, size=8)
        kernels = {1: 3.0, 3: 0.0, 5: land.uniform(-0.3, 0.8), 7: land.uniform(0.0, 1.5)}
        floor = min(kernels.values())
        extras = {name: abs(land.normal(0, 0.35)) for name in EXTRAS}
        best = [land.choice(options) for options in EXTRAS.values()]
        stages = architecture.stages
        layers = sum(stage.blocks for stage in stages) * architecture.block.depth
        ratios = [b.width / a.width for a, b in pairwise(stages)]
        blocks = sum(stage.blocks for stage in stages)
        mean_kernel = sum((kernels[stage.kernel] - floor) * stage.blocks for stage in stages) / blocks
        lost = [
            0.9 * max(0.0, math.log2(5e6 / candidate.parameters)) ** 1.2,
            0.5 * max(0.0, math.log2(600e6 / candidate.macs)),
            0.6 * math.log2(layers / want_layers) ** 2,
            0.8 * float(np.mean([math.log2(r / want_ratio) ** 2 for r in ratios])) if ratios else 1.0,
            0.8 * mean_kernel,
            0.4 * abs(len(stages) - land.integers(3, 5)),
        ]
        lost += [
            weight * (value != wanted)
            for (weight, wanted, value) in zip(extras.values(), best, chosen(architecture), strict=True)
        ]
        penalty = float(np.dot(weights[:6], lost[:6]) + sum(lost[6:]))
        penalty += 3.0 * (architecture.activation == "tanh") + 10.0 * architecture.head.softmax
        return penalty / 100


EXTRAS = {
    "activation": ("relu", "leaky_relu", "gelu", "silu"),
    "gate": ("none", "stem", "block"),
    "pool": ("avg", "max"),
    "stem": (3, 5, 7),
    "shortcut": (1, 3),
    "dropout": (0.0, 0.1, 0.2),
    "convolutions": (2, 3),
    "kind": ("basic", "bottleneck", "inverted"),
    "reshaping": ("projection", "padding", "identity"),
    "growth": ("step", "linear"),
    "preactivation": (False, True),
}


def chosen(architecture: Architecture) -> tuple[object, ...]:
    """The network's answers to EXTRAS, in order."""
    gate = "block" if architecture.block.squeeze_excitation else "stem"
    gate = gate if architecture.block.squeeze_excitation or architecture.stem.squeeze_excitation else "none"
    return (
        architecture.activation,
        gate,
        architecture.pool.kind,
        architecture.stem.kernel,
        architecture.stages[-1].shortcut_kernel,
        architecture.head.dropout,
        architecture.block.depth,
        architecture.block.kind,
        architecture.block.shortcut,
        "linear" if any(stage.growth == "linear" for stage in architecture.stages) else "step",
        architecture.block.preactivation,
    )


@dataclass(frozen=True)
class Tabled:
    """A world of a table: its space, budget and task."""

    table: Table

    @property
    def epochs(self) -> int:
        return self.table.epochs

    @property
    def space(self) -> SearchSpace:
        return self.table.space

    @property
    def budget(self) -> Budget:
        return self.table.budget

    @property
    def task(self) -> Task:
        return self.table.task


@dataclass(frozen=True)
class Replay(Tabled):
    """Real curves of a table, continued to every other network of the space by trees fitted to them.

    The trees tell the mean curve, the truth and the seconds of an epoch, in log odds. What they cannot tell
    is put back: each network takes the out-of-bag residual (curve and truth together) of some entry that was
    expected to be as good, shrunk by the share of it that is luck; and each training the luck of a real
    repetition from another seed. Trees promise no more than the best of the table plus such a residual.
    """

    near: int = 30  # entries of like expectation that a residual is drawn from
    near_luck: int = 12  # trainings of like accuracy that luck is drawn from

    @property
    def name(self) -> str:
        return f"{self.table.data}, surrogate"

    @cached_property
    def forest(self) -> Forest:
        return Forest.fitted(self.table.features, self.table.targets, seed=0)

    @cached_property
    def expected(self) -> Array:
        """Log odds of the truth of each entry, as trees tell it that did not see the entry."""
        return self.forest.out_of_bag[:, -2]

    @cached_property
    def residuals(self) -> Array:
        return np.asarray((self.table.targets - self.forest.out_of_bag)[:, :-1])

    def _own(self, expected: float, which: float) -> Array:
        """A residual, without the mean of those around it, and as small as it would be without luck."""
        nearest = np.argsort(np.abs(self.expected - expected))[: self.near]
        around, luck = self.residuals[nearest], self.table.luck[self._nearest_luck(expected)]
        kept = 1 - luck.var(axis=0) / (around.var(axis=0) + 1e-12)
        own = around[int(which * len(nearest))] - around.mean(axis=0)
        return np.asarray(own * np.sqrt(np.clip(kept, 0, 1)))

    def _nearest_luck(self, truth: float) -> NDArray[np.intp]:
        return np.argsort(np.abs(self.table.luck_of - truth))[: self.near_luck]

    def learn(self, candidate: Candidate, seed: int) -> Learning:
        name = candidate.fingerprint
        mean = self.forest.predict(features(candidate.architecture, candidate.parameters, candidate.macs))
        values = mean[:-1] + self._own(mean[-2], generator("residual", seed, name).random())
        lucks = self._nearest_luck(values[-1])
        luck = self.table.luck[lucks[generator("luck", seed, name).integers(len(lucks))]]
        curve, images = 1 / (1 + np.exp(-values[:-1] - luck[:-1])), self.table.validation_images
        return Learning(
            tuple((np.round(curve * images) / images).tolist()),
            float(1 / (1 + math.exp(-values[-1]))),
            math.exp(mean[-1]),
        )


@dataclass(frozen=True)
class Dealt(Tabled):
    """The table and nothing else: every network with the curve that it had, truth the mean over its seeds."""

    @property
    def name(self) -> str:
        return f"{self.table.data}, the table itself"

    @cached_property
    def entries(self) -> dict[str, Entry]:
        return {entry.architecture.fingerprint: entry for entry in self.table.entries}

    def learn(self, candidate: Candidate, seed: int) -> Learning:
        del seed
        entry = self.entries[candidate.fingerprint]
        return Learning(entry.curve, entry.truth, entry.seconds, entry.loss, entry.training_loss)
