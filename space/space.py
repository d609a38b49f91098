"""The search space as a document people write: which values each knob may take, and how likely each is.

Reads TOML or JSON; `default.toml` beside this file is the documented default, `published.toml` the space of
all published networks. Called wherever a space is opened: by the commands, by `search launch` and by the
study's settings. It knows neither the budget nor how a value is chosen: that is `space/sampling.py`.
"""

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, field_validator, model_validator

from space import parser
from space.architecture import MOST_BLOCKS, MOST_STAGES, Activation, MaxPool, map_after
from space.blocks import BlockKind, Expansion, Groups, Growth, ShortcutKind
from space.document import Document, first_problem, name_of
from space.domains import (
    BlocksDomain,
    Domain as Knob,
    FloatDomain,
    FloatRange as FloatRange,
    IntDomain,
    IntRange as IntRange,
    Kernels,
    Strides,
    Truths,
    maximum,
    minimum,
)
from space.errors import SpaceError
from space.weights import Choices

PACKAGED = ("default", "published")
Blocks = Annotated[int, Field(ge=1, le=MOST_BLOCKS)]
Form = Literal["linear", "hidden", "tail", "softmax"]
Grain = Annotated[int, Field(ge=1, le=1_024)]
Grains = Annotated[
    Choices[Grain],
    BeforeValidator(
        lambda given: (given,) if isinstance(given, int) else given,
        json_schema_input_type=Grain | Annotated[tuple[Grain, ...], Field(min_length=1, max_length=64)],
    ),
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
    max_pool: Truths = (False,)


class StageKnobs(Document):
    """Knobs of a stage; the width ratio is to the stage before and counts from the second one on. The growth
    counts in stages of two blocks and more."""

    blocks: BlocksDomain = IntRange(low=1, high=4)
    kernel: Kernels = (3,)
    shortcut_kernel: Kernels = (1,)
    width_ratio: FloatDomain = (2.0,)
    stride: Strides = (2,)
    growth: Choices[Growth] = ("step",)


class SameKnobs(Document):
    """Whether all stages share one value of a knob of [stage], drawn once: true, false, or both with weights.
    Stages with a value of their own in [stages.N] keep it."""

    blocks: Truths = (False,)
    kernel: Truths = (False,)
    shortcut_kernel: Truths = (False,)
    width_ratio: Truths = (False,)
    growth: Truths = (False,)


class StageOverride(Document):
    blocks: BlocksDomain | None = None
    kernel: Kernels | None = None
    shortcut_kernel: Kernels | None = None
    width_ratio: FloatDomain | None = None
    stride: Strides | None = None
    growth: Choices[Growth] | None = None


def _leaves_something(knob: Knob) -> Knob:
    if maximum(knob) >= 1:
        raise ValueError(f"dropout {maximum(knob)} would drop everything; stay below 1")
    return knob


DropoutKnob = Annotated[FloatDomain, AfterValidator(_leaves_something)]


class PoolKnobs(Document):
    """Either `size` positions a side of the whole map, or one `window` from the map's upper left corner
    (0: none), which counts where the map holds it once and not twice."""

    kind: Choices[Literal["avg", "max"]] = ("avg",)
    size: Choices[Annotated[int, Field(ge=1, le=64)]] = (1,)
    window: Choices[Annotated[int, Field(ge=0, le=64)]] = (0,)


class HeadKnobs(Document):
    """`form`: a linear classifier; one `hidden` layer before it; a `tail` of two 3x3 convolutions before
    the pool, as wide as the last stage; or a softmax after the classifier, which trains badly."""

    dropout: DropoutKnob = (0.0,)
    form: Choices[Form] = ("linear",)
    hidden: IntDomain = (1_024,)

    @field_validator("hidden")
    @classmethod
    def _is_a_width(cls, knob: Knob) -> Knob:
        if maximum(knob) > 65_536:
            raise ValueError(f"{maximum(knob):,} features; at most 65,536")
        return knob


class BlockKnobs(Document):
    """`preactivation`: batch norm and activation before each convolution of a block, not after it.

    `convolutions` are those of basic blocks; `expansion` is of bottleneck and inverted ones, `groups` of
    bottlenecks, as space/blocks.py has them; they count in these alone. `shortcut` is what a block has that
    changes the map or the width; kernels of shortcuts count where it is a projection.
    """

    convolutions: Choices[Annotated[int, Field(ge=1, le=8)]] = (2,)
    dropout: DropoutKnob = (0.0,)
    activation: Choices[Activation] = ("relu",)
    squeeze_excitation: Choices[Literal["none", "stem", "block"]] = ("none",)
    preactivation: Truths = (False,)
    kind: Choices[BlockKind] = ("basic",)
    expansion: Choices[Expansion] = (4,)
    groups: Choices[Groups] = (1,)
    shortcut: Choices[ShortcutKind] = ("projection",)


class StemOverride(Document):
    width_ratio: FloatDomain | None = None
    kernel: Kernels | None = None
    stride: Strides | None = None
    max_pool: Truths | None = None


class LargeImages(Document):
    """What is otherwise for images of more than `above` pixels a side; see `SearchSpace.for_images`."""

    above: int = Field(64, ge=1)
    stem: StemOverride = StemOverride()


class Variant(Document):
    """What is otherwise in first guesses of this kind; as in a plain one where nothing is said."""

    preactivation: bool | None = None
    activation: Activation | None = None
    shortcut: ShortcutKind | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.changes:
            raise ValueError(f"a variant changes something: {', '.join(type(self).model_fields)}")
        return self

    @property
    def changes(self) -> dict[str, Any]:
        """The knobs that are set, by name."""
        return self.model_dump(exclude_none=True)


class Baselines(Document):
    """The first guesses that a search begins with (space/baselines.py): the blocks of each stage, and the
    shares of the budget that each is solved for. Of few trials those that stand first are taken. `variants`
    come after them, for the first share, and are no baselines."""

    blocks: Annotated[
        tuple[Annotated[tuple[Blocks, ...], Field(min_length=1, max_length=8, strict=False)], ...],
        Field(min_length=1, max_length=16, strict=False),
    ] = ((3, 3, 3), (2, 2, 2), (1, 1, 1))
    budget: Annotated[
        tuple[Annotated[float, Field(gt=0, le=1, strict=False)], ...],
        Field(min_length=1, max_length=4, strict=False),
    ] = (1.0, 0.5)
    variants: Annotated[tuple[Variant, ...], Field(max_length=8, strict=False)] = ()


class Task(Document):
    """What the data dictate: channels of the input, side of its square images in pixels, classes; within the
    bounds of space/architecture.py."""

    channels: int = Field(3, ge=1, le=1_024)
    image_size: int = Field(32, ge=1, le=1_024)
    classes: int = Field(10, ge=2, le=100_000)


class SearchSpace(Document):
    depth: IntDomain = IntRange(low=2, high=5)
    budget_share: FloatRange = FloatRange(low=0.25, high=1.0)
    width: WidthKnob = WidthKnob()
    stem: StemKnobs = StemKnobs()
    stage: StageKnobs = StageKnobs()
    stages: dict[str, StageOverride] = Field(default_factory=dict)
    same: SameKnobs = SameKnobs()
    pool: PoolKnobs = PoolKnobs()
    head: HeadKnobs = HeadKnobs()
    block: BlockKnobs = BlockKnobs()
    large_images: LargeImages | None = None
    baselines: Baselines | None = None

    def __hash__(self) -> int:
        """Without the overrides, which a dict holds: equal spaces have equal hashes all the same."""
        return hash(tuple(value for name, value in self if name != "stages"))

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
        own = [i for i, stage in sorted(self.stages.items()) if i != "1" and stage.width_ratio is not None]
        if own and False not in self.same.width_ratio:
            raise ValueError(f"same.width_ratio: stages.{own[0]} has its own; leave false possible")
        return self

    def for_images(self, size: int) -> "SearchSpace":
        """The space for images of this side in pixels: [large_images] taken in or left out, and gone."""
        if self.large_images is None:
            return self
        update: dict[str, Any] = {"large_images": None}
        if size > self.large_images.above:
            own = {name: knob for name, knob in self.large_images.stem if knob is not None}
            update["stem"] = self.stem.model_copy(update=own)
        return self.model_copy(update=update)

    def knobs(self, stage: int) -> StageKnobs:
        """The knobs of stage 1, 2, ...: those of [stage], overridden by [stages.N]. The first stage keeps
        the stem's resolution unless [stages.1] gives a stride."""
        own: dict[str, Any] = {"stride": (1,)} if stage == 1 else {}
        if override := self.stages.get(str(stage)):
            own |= {name: knob for name, knob in override if knob is not None}
        return self.stage.model_copy(update=own) if own else self.stage

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
        raise SpaceError(f"{source}: {first_problem(error, SearchSpace)}") from None


def load(path: Path) -> SearchSpace:
    """Reads a .toml or .json file; `published` and `default`, where no such file is, are the package's own.
    Raises SpaceError: not there, not readable, or not a space."""
    if str(path) in PACKAGED and not path.exists():
        return packaged(str(path))
    found = parse(parser.read(path, parser.form_of(path), SpaceError), str(path))
    if (first := found.stages.get("1")) and first.width_ratio is not None:  # a stored space may have it
        problem = "no stage is before the first; the ratio of the stem to it is stem.width_ratio"
        raise SpaceError(f"{path}: stages.1.width_ratio: {problem}") from None
    return found


def default() -> SearchSpace:
    """The space of default.toml. Raises SpaceError where it was changed into none."""
    return packaged("default")


def packaged(name: str) -> SearchSpace:
    """A space that comes with the package, by one of the names in PACKAGED.

    Raises SpaceError where its file was changed into none.
    """
    text = files("space").joinpath(f"{name}.toml").read_bytes()
    return parse(parser.parse(text, "TOML", f"{name}.toml", SpaceError), f"{name}.toml")


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a space file."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | SearchSpace.model_json_schema()
