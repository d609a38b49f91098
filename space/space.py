"""The search space as a document people write: which values each knob may take.

Read from TOML or JSON; `default.toml` beside this file is the documented default. It knows neither the
budget nor how a value is chosen: that is `space/sampling.py`.
"""

import tomllib
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from space.architecture import MOST_BLOCKS, MOST_STAGES, Activation, Kernel, MaxPool, Stride, map_after
from space.document import Document, first_problem, read
from space.errors import SpaceError

LARGEST = 10**6  # of any number in a range or a list; what it may mean for a network is checked there


class Range(Document):
    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        low, high, step, log = (getattr(self, name) for name in ("low", "high", "step", "log"))
        if low > high:
            raise ValueError(f"empty range: low {low} is above high {high}")
        if log and low <= 0:
            raise ValueError(f"a log range starts above 0, not at {low}")
        if step and (high - low) / step > LARGEST:
            raise ValueError(f"step {step} cuts {low} to {high} into more than {LARGEST:,}")
        return self


class IntRange(Range):
    """All integers from low to high, both included, `step` apart."""

    low: int = Field(ge=1, le=LARGEST)
    high: int = Field(ge=1, le=LARGEST)
    step: int = Field(1, ge=1, le=LARGEST)
    log: bool = False

    @model_validator(mode="after")
    def _steps_or_log(self) -> Self:
        if self.log and self.step != 1:
            raise ValueError("log and step exclude each other")
        return self

    @property
    def top(self) -> int:
        """The highest number that steps from `low` reach."""
        return self.high - (self.high - self.low) % self.step


class FloatRange(Range):
    """All numbers from low to high, both included, `step` apart where a step is given."""

    low: float = Field(ge=0, le=LARGEST)
    high: float = Field(ge=0, le=LARGEST)
    step: float | None = Field(None, gt=0, le=LARGEST)
    log: bool = False

    @model_validator(mode="after")
    def _steps_or_log(self) -> Self:
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other")
        long = [x for x in (self.low, self.high, self.step) if x is not None and round(x, 6) != x]
        if self.step and long:  # floats of more digits never meet: 0.1 * 3 is not 0.3
            raise ValueError(f"numbers of a range with a step have 6 decimals at most, unlike {long[0]}")
        return self

    @property
    def top(self) -> float:
        """The highest number that steps from `low` reach, in decimals: 0.3 is three steps of 0.1."""
        if self.step is None:
            return self.high
        low, high, step = (Decimal(str(number)) for number in (self.low, self.high, self.step))
        return float(high - (high - low) % step)


def _is_range(value: object) -> str:
    return RANGE if isinstance(value, (dict, Range)) else CHOICES


RANGE, CHOICES = "<range>", "<choices>"  # not shown in messages: they stand in no file
Ints = Annotated[
    tuple[Annotated[int, Field(ge=1, le=LARGEST)], ...],
    Field(min_length=1, max_length=64, strict=False),
    Tag(CHOICES),
]
Floats = Annotated[
    tuple[Annotated[float, Field(ge=0, le=LARGEST)], ...],
    Field(min_length=1, max_length=64, strict=False),
    Tag(CHOICES),
]
IntKnob = Annotated[Annotated[IntRange, Tag(RANGE)] | Ints, Discriminator(_is_range)]
FloatKnob = Annotated[Annotated[FloatRange, Tag(RANGE)] | Floats, Discriminator(_is_range)]
Kernels = Annotated[tuple[Kernel, ...], Field(min_length=1, max_length=32, strict=False)]
Strides = Annotated[tuple[Stride, ...], Field(min_length=1, max_length=8, strict=False)]
Knob = IntRange | FloatRange | tuple[Any, ...]


def _buildable(knob: Knob) -> Knob:
    if maximum(knob) > MOST_BLOCKS:
        raise ValueError(f"{maximum(knob):,} blocks; at most {MOST_BLOCKS:,}")
    return knob


BlocksKnob = Annotated[IntKnob, AfterValidator(_buildable)]


class WidthKnob(Document):
    """Width of the first stage in channels. `round_to` is the grain of what is proposed."""

    low: int = Field(8, ge=1, le=65_536)
    high: int = Field(512, ge=1, le=65_536)
    round_to: int = Field(8, ge=1, le=1_024)

    @model_validator(mode="after")
    def _holds_a_multiple(self) -> Self:
        if not self.grid:
            raise ValueError(f"no multiple of {self.round_to} from {self.low} to {self.high}")
        return self

    @property
    def grid(self) -> range:
        first = -(-self.low // self.round_to) * self.round_to
        return range(first, self.high + 1, self.round_to)


class StemKnobs(Document):
    width_ratio: FloatKnob = (1.0,)
    kernel: Kernels = (3,)
    stride: Strides = (1,)
    max_pool: tuple[bool, ...] = Field((False,), min_length=1, max_length=2, strict=False)


class StageKnobs(Document):
    """Knobs of a stage; the width ratio is to the stage before and counts from the second one on."""

    blocks: BlocksKnob = IntRange(low=1, high=4)
    kernel: Kernels = (3,)
    shortcut_kernel: Kernels = (1,)
    width_ratio: FloatKnob = (2.0,)
    stride: Strides = (2,)


class StageOverride(Document):
    blocks: BlocksKnob | None = None
    kernel: Kernels | None = None
    shortcut_kernel: Kernels | None = None
    width_ratio: FloatKnob | None = None
    stride: Strides | None = None


class PoolKnobs(Document):
    kind: tuple[Literal["avg", "max"], ...] = Field(("avg",), min_length=1, max_length=2, strict=False)
    size: tuple[Annotated[int, Field(ge=1, le=64)], ...] = Field((1,), min_length=1, strict=False)


class HeadKnobs(Document):
    dropout: FloatKnob = (0.0,)

    @field_validator("dropout")
    @classmethod
    def _is_a_probability(cls, knob: Knob) -> Knob:
        if maximum(knob) >= 1:
            raise ValueError(f"dropout {maximum(knob)} would drop everything; stay below 1")
        return knob


class BlockKnobs(Document):
    convolutions: tuple[Annotated[int, Field(ge=1, le=8)], ...] = Field((2,), min_length=1, strict=False)
    activation: tuple[Activation, ...] = Field(("relu",), min_length=1, strict=False)
    squeeze_excitation: tuple[Literal["none", "stem", "block"], ...] = Field(
        ("none",), min_length=1, strict=False
    )


class Task(Document):
    """What the data dictate: channels of the input, side of its square images in pixels, classes."""

    channels: int = Field(3, ge=1)
    image_size: int = Field(32, ge=1)
    classes: int = Field(10, ge=2)


class SearchSpace(Document):
    depth: IntKnob = IntRange(low=2, high=5)
    budget_share: FloatRange = FloatRange(low=0.25, high=1.0)
    width: WidthKnob = WidthKnob()
    stem: StemKnobs = StemKnobs()
    stage: StageKnobs = StageKnobs()
    stages: dict[str, StageOverride] = Field(default_factory=dict)
    pool: PoolKnobs = PoolKnobs()
    head: HeadKnobs = HeadKnobs()
    block: BlockKnobs = BlockKnobs()

    @model_validator(mode="after")
    def _speaks_of_stages_that_exist(self) -> Self:
        if maximum(self.depth) > MOST_STAGES:
            raise ValueError(f"depth: {maximum(self.depth)} stages; at most {MOST_STAGES}")
        deepest = {str(i) for i in range(1, int(maximum(self.depth)) + 1)}
        if unknown := sorted(set(self.stages) - deepest):
            raise ValueError(f"stages.{unknown[0]}: no such stage; depth goes to {maximum(self.depth)}")
        if not 0 < self.budget_share.low <= self.budget_share.high <= 1:
            raise ValueError("budget_share: give a range above 0 and up to 1")
        return self

    def knobs(self, stage: int) -> StageKnobs:
        """The knobs of stage 1, 2, ...: those of [stage], overridden by [stages.N]. The first stage keeps
        the stem's resolution unless [stages.1] gives a stride."""
        own: dict[str, Any] = {"stride": (1,)} if stage == 1 else {}
        if override := self.stages.get(str(stage)):
            own |= {name: knob for name, knob in override if knob is not None}
        return self.stage.model_copy(update=own)

    def require_geometry(self, image_size: int) -> None:
        """Raises SpaceError where a kernel or pool is larger than the largest map it could ever meet."""
        size = map_after(image_size, min(self.stem.stride))
        size = MaxPool().map_after(size) if all(self.stem.max_pool) else size
        self._require("stem.kernel", self.stem.kernel, image_size)
        shared = {"kernel": 0, "shortcut_kernel": 0}
        for i in range(1, int(maximum(self.depth)) + 1):
            size = map_after(size, min(self.knobs(i).stride))
            for name in shared:
                own = getattr(self.stages.get(str(i)), name, None)
                if own is not None:
                    self._require(f"stages.{i}.{name}", own, size)
                else:
                    shared[name] = max(shared[name], size)
            if i == minimum(self.depth) and min(self.pool.size) > size:
                raise SpaceError(
                    f"pool.size: {min(self.pool.size)} is larger than the last map, {size}x{size}"
                )
        for name, largest in shared.items():
            if largest:
                self._require(f"stage.{name}", getattr(self.stage, name), largest)

    @staticmethod
    def _require(place: str, kernels: tuple[int, ...], size: int) -> None:
        if not fits(max(kernels), size):
            raise SpaceError(f"{place}: {max(kernels)} is larger than its feature map, {size}x{size} at most")


def fits(kernel: int, size: int) -> bool:
    """A kernel fits a map that is not smaller; 3 fits a 2x2 map too, where both neighbours are seen."""
    return kernel <= size or (kernel == 3 and size == 2)


def minimum(knob: Knob) -> float:
    """The lowest value that a knob can take."""
    return min(knob) if isinstance(knob, tuple) else knob.low


def maximum(knob: Knob) -> float:
    """The highest value that a knob can take."""
    return max(knob) if isinstance(knob, tuple) else knob.high


def parse(document: object, source: str = "space") -> SearchSpace:
    """Raises SpaceError with the path of the first bad field."""
    try:
        return SearchSpace.model_validate(document)
    except ValidationError as error:
        raise SpaceError(f"{source}: {first_problem(error)}") from None


def load(path: Path) -> SearchSpace:
    """Reads a .toml or .json file. Raises SpaceError: not there, not readable, or not a space."""
    document = read(path, "JSON" if path.suffix.lower() == ".json" else "TOML", SpaceError)
    return parse(document, str(path))


def default() -> SearchSpace:
    """The space of default.toml."""
    return parse(tomllib.loads(files("space").joinpath("default.toml").read_text()), "default.toml")
