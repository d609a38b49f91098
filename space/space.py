"""The search space as a document people write: which values each knob may take.

Read from TOML or JSON; `default.toml` beside this file is the documented default. It knows neither the
budget nor how a value is chosen: that is `space/sampling.py`.
"""

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, field_validator, model_validator

from space.architecture import MOST_STAGES, Activation, MaxPool, map_after
from space.document import Document, first_problem, name_of, read
from space.domains import (
    BlocksDomain,
    Domain as Knob,
    FloatDomain,
    FloatRange as FloatRange,
    IntDomain,
    IntRange as IntRange,
    Kernels,
    Strides,
    maximum,
    minimum,
)
from space.errors import SpaceError

Form = Literal["linear", "hidden", "tail", "softmax"]
Grains = Annotated[
    tuple[Annotated[int, Field(ge=1, le=1_024)], ...],
    Field(min_length=1, max_length=32, strict=False),
    BeforeValidator(lambda given: (given,) if isinstance(given, int) else given),
]


class WidthKnob(Document):
    """Width of the first stage in channels. All widths of a network are multiples of one `round_to`."""

    low: int = Field(8, ge=1, le=65_536)
    high: int = Field(512, ge=1, le=65_536)
    round_to: Grains = (8,)

    @model_validator(mode="after")
    def _holds_a_multiple(self) -> Self:
        for grain in self.round_to:
            if not self.grid(grain):
                raise ValueError(f"no multiple of {grain} from {self.low} to {self.high}")
        return self

    def grid(self, grain: int) -> range:
        """The multiples of `grain` that the first stage may have as its width."""
        return range(-(-self.low // grain) * grain, self.high + 1, grain)


class StemKnobs(Document):
    width_ratio: FloatDomain = (1.0,)
    kernel: Kernels = (3,)
    stride: Strides = (1,)
    max_pool: tuple[bool, ...] = Field((False,), min_length=1, max_length=2, strict=False)


class StageKnobs(Document):
    """Knobs of a stage; the width ratio is to the stage before and counts from the second one on."""

    blocks: BlocksDomain = IntRange(low=1, high=4)
    kernel: Kernels = (3,)
    shortcut_kernel: Kernels = (1,)
    width_ratio: FloatDomain = (2.0,)
    stride: Strides = (2,)


class StageOverride(Document):
    blocks: BlocksDomain | None = None
    kernel: Kernels | None = None
    shortcut_kernel: Kernels | None = None
    width_ratio: FloatDomain | None = None
    stride: Strides | None = None


def _leaves_something(knob: Knob) -> Knob:
    if maximum(knob) >= 1:
        raise ValueError(f"dropout {maximum(knob)} would drop everything; stay below 1")
    return knob


DropoutKnob = Annotated[FloatDomain, AfterValidator(_leaves_something)]


class PoolKnobs(Document):
    """Either `size` positions a side of the whole map, or one `window` from the map's upper left corner
    (0: none), which counts where the map holds it once and not twice."""

    kind: tuple[Literal["avg", "max"], ...] = Field(("avg",), min_length=1, max_length=2, strict=False)
    size: tuple[Annotated[int, Field(ge=1, le=64)], ...] = Field((1,), min_length=1, strict=False)
    window: tuple[Annotated[int, Field(ge=0, le=64)], ...] = Field(
        (0,), min_length=1, max_length=32, strict=False
    )


class HeadKnobs(Document):
    """`form`: a linear classifier; one `hidden` layer before it; a `tail` of two 3x3 convolutions before
    the pool, as wide as the last stage; or a softmax after the classifier, which trains badly."""

    dropout: DropoutKnob = (0.0,)
    form: tuple[Form, ...] = Field(("linear",), min_length=1, max_length=64, strict=False)
    hidden: IntDomain = (1_024,)

    @field_validator("hidden")
    @classmethod
    def _is_a_width(cls, knob: Knob) -> Knob:
        if maximum(knob) > 65_536:
            raise ValueError(f"{maximum(knob):,} features; at most 65,536")
        return knob


class BlockKnobs(Document):
    convolutions: tuple[Annotated[int, Field(ge=1, le=8)], ...] = Field((2,), min_length=1, strict=False)
    dropout: DropoutKnob = (0.0,)
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
    depth: IntDomain = IntRange(low=2, high=5)
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
            told = f"stages.{name_of(unknown[0])}"
            raise ValueError(f"{told}: no such stage; depth goes to {maximum(self.depth)}")
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
            if i == minimum(self.depth) and max(self.pool.window) > size:
                raise SpaceError(
                    f"pool.window: {max(self.pool.window)} is larger than the last map, {size}x{size} at most"
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
