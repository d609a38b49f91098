"""What a learning rate may do over a training: one small document for each kind of schedule.

Held by a recipe (trainer/recipe/document.py), asked by trainer/learning_rate.py for each step. Lengths are
epochs and may be fractions; `unit` says whether the rate changes with every step or only with every epoch. A
schedule is counted from the end of its warm-up. Free of torch; knows no optimizer.
"""

import math
from abc import ABC, abstractmethod
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from trainer.recipe import part
from trainer.recipe.part import RecipePart, tag

Share = Annotated[float, Field(ge=0, lt=1)]
Length = Annotated[float, Field(gt=0, le=1_000_000)]
Kind = Literal["one_cycle", "cosine", "cosine_restarts", "linear", "polynomial", "step", "constant"]
ROUNDING = 1e-9  # of a time: a length that was stretched may miss the step it means by its last bits


class Base(RecipePart, ABC):
    """What all have: when the rate changes, and a straight rise to the highest rate before the schedule."""

    unit: Literal["step", "epoch"] = Field("step", description="when the rate changes")
    warm_up: float = Field(0, ge=0, le=1_000_000, description="epochs of a straight rise to the highest rate")
    warm_up_from: Share = Field(0.01, description="share of the highest rate that the warm-up starts from")

    name: str

    @abstractmethod
    def at(self, peak: float, t: float, total: float, epoch: float) -> float:
        """The rate at t >= 0 of `total` units, where `epoch` units make an epoch."""

    @property
    def end(self) -> float | None:
        """Epochs, warm-up included, after which a schedule of fixed length is over; None: it fits any run."""
        return None

    def stretched(self, factor: float) -> "Base":
        """The same shape over `factor` times as many epochs; the warm-up too."""
        given = {name: getattr(self, name) for name in LENGTHS if getattr(self, name, None)}
        return self.model_copy(update={name: _times(value, factor) for name, value in given.items()})


LENGTHS = ("warm_up", "length", "first", "milestones", "every")


class Limited(Base):
    """A schedule over the whole run, or over a length of its own (torch: T_max, total_iters...)."""

    length: Length | None = Field(None, description="epochs; left out: what the warm-up leaves of the run")

    @property
    def end(self) -> float | None:
        return None if self.length is None else self.warm_up + self.length


class OneCycle(Limited):
    """Half a cosine up and half a cosine down (Smith and Topin, 2017, arXiv 1708.07120)."""

    name: Literal["one_cycle"] = "one_cycle"
    rise: Share = Field(0.25, description="share of the schedule that rises")
    start: Share = Field(1 / 25, description="first rate, as a share of the highest")
    final: Share = Field(0.0, description="last rate, as a share of the highest")
    momentum: tuple[Share, Share] | None = Field(
        None, description="[low, high]: momentum or first beta, low where the rate is highest"
    )

    def at(self, peak: float, t: float, total: float, epoch: float) -> float:  # noqa: ARG002
        rise, progress = self._progress(t, total)
        least = self.start if rise else self.final
        return peak * (least + (1 - least) * half_cosine(progress))

    def momentum_at(self, t: float, total: float) -> float | None:
        """Against the rate: from high to low while it rises, and back."""
        if self.momentum is None:
            return None
        low, high = self.momentum
        return high - (high - low) * half_cosine(self._progress(t, total)[1])

    def _progress(self, t: float, total: float) -> tuple[bool, float]:
        """Whether it still rises, and the distance from the peak, 0..1, on this side of it."""
        rise = round(self.rise * total)
        return (True, 1 - t / rise) if t < rise else (False, min(1.0, (t - rise) / max(1e-12, total - rise)))


class Cosine(Limited):
    """Half a cosine down to `minimum` (arXiv 1608.03983, 2016); past its length it climbs, as torch's."""

    name: Literal["cosine"] = "cosine"
    minimum: float = Field(0.0, ge=0, le=100, description="lowest rate (eta_min)")

    def at(self, peak: float, t: float, total: float, epoch: float) -> float:  # noqa: ARG002
        return self.minimum + (peak - self.minimum) * half_cosine(t / total)


class CosineRestarts(Base):
    """Cosines that start again at the highest rate, each `growth` times as long as the one before.

    SGDR: Loshchilov and Hutter, 2016 (arXiv 1608.03983).
    """

    name: Literal["cosine_restarts"] = "cosine_restarts"
    first: Length = Field(10.0, description="epochs of the first cycle (T_0)")
    growth: int = Field(1, ge=1, le=100, description="T_mult")
    minimum: float = Field(0.0, ge=0, le=100, description="lowest rate (eta_min)")

    def at(self, peak: float, t: float, total: float, epoch: float) -> float:  # noqa: ARG002
        return self.minimum + (peak - self.minimum) * half_cosine(self.share(t, epoch))

    def share(self, t: float, epoch: float) -> float:
        """How much of its cycle is over."""
        cycle = self.first * epoch
        while t >= cycle * (1 - ROUNDING):
            t, cycle = max(0.0, t - cycle), cycle * self.growth
        return t / cycle


class Linear(Limited):
    """A straight line from the highest rate to a share of it, which is then held."""

    name: Literal["linear"] = "linear"
    final: float = Field(0.0, ge=0, le=1, description="last rate, as a share of the highest")

    def at(self, peak: float, t: float, total: float, epoch: float) -> float:  # noqa: ARG002
        return peak * (1 + (self.final - 1) * min(1.0, t / total))


class Polynomial(Limited):
    """peak * (1 - t/length)^power, then 0."""

    name: Literal["polynomial"] = "polynomial"
    power: float = Field(2.0, gt=0, le=20)

    def at(self, peak: float, t: float, total: float, epoch: float) -> float:  # noqa: ARG002
        return float(peak * (1 - min(1.0, t / total)) ** self.power)


class Step(Base):
    """Falls by `factor` at each of the milestones, or after every so many epochs."""

    name: Literal["step"] = "step"
    milestones: tuple[Length, ...] = Field((), description="epochs, in rising order")
    every: Length | None = Field(None, description="epochs")
    factor: float = Field(0.1, gt=0, lt=1)

    @model_validator(mode="after")
    def _has_one_of_both(self) -> "Step":
        if bool(self.milestones) == (self.every is not None):
            raise ValueError("give either milestones or every")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("milestones must rise")
        return self

    def at(self, peak: float, t: float, total: float, epoch: float) -> float:  # noqa: ARG002
        passed = sum(t >= milestone * epoch * (1 - ROUNDING) for milestone in self.milestones)
        falls = int(t / (self.every * epoch) * (1 + ROUNDING)) if self.every else passed
        return float(peak * self.factor**falls)


class Constant(Base):
    """The highest rate to the end."""

    name: Literal["constant"] = "constant"

    def at(self, peak: float, t: float, total: float, epoch: float) -> float:  # noqa: ARG002
        return peak


Schedule = OneCycle | Cosine | CosineRestarts | Linear | Polynomial | Step | Constant
SHORT: dict[str, type[Base]] = {
    "one_cycle": OneCycle,
    "cosine": Cosine,
    "cosine_restarts": CosineRestarts,
    "linear": Linear,
    "polynomial": Polynomial,
    "constant": Constant,
}
ShortName = Literal["one_cycle", "cosine", "cosine_restarts", "linear", "polynomial", "constant"]


ScheduleField = Annotated[
    Annotated[ShortName, Tag(part.SHORT)]
    | Annotated[OneCycle, Tag("one_cycle")]
    | Annotated[Cosine, Tag("cosine")]
    | Annotated[CosineRestarts, Tag("cosine_restarts")]
    | Annotated[Linear, Tag("linear")]
    | Annotated[Polynomial, Tag("polynomial")]
    | Annotated[Step, Tag("step")]
    | Annotated[Constant, Tag("constant")],
    Discriminator(
        tag,
        custom_error_type="schedule",
        custom_error_message="name should be one_cycle, cosine, cosine_restarts, linear, polynomial, step"
        " or constant",
    ),
]


def half_cosine(progress: float) -> float:
    """1 at 0, 0 at 1, and on as cosines go."""
    return (1 + math.cos(math.pi * progress)) / 2


def _times(value: Any, factor: float) -> Any:
    return tuple(x * factor for x in value) if isinstance(value, tuple) else value * factor
