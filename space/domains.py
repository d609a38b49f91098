"""What a knob may say: a range of numbers, a list of choices, or choices with weights.

Types that space/space.py builds its documents of, and questions about a knob (its lowest value, whether it
holds one) that all of space/ asks. It reads and writes nothing, and knows no network and no sampler. Weights
stand in space/weights.py; a choice that stands twice in a list is drawn twice as often, as files did before
weights.
"""

from decimal import Decimal
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from space.architecture import MOST_BLOCKS, Kernel, Stride
from space.document import Document
from space.weights import Choices

LARGEST = 10**6  # of any number in a range or a list; what it may mean for a network is checked there


class Range(Document):
    @model_validator(mode="before")
    @classmethod
    def _is_a_table(cls, given: Any) -> Any:
        if isinstance(given, (bool, int, float, str, list, tuple)):
            raise ValueError("give a range, { low = 0.5, high = 1.0 }")
        return given

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
    """A table is a range where it has a range's field, or nothing at all; else it holds weights."""
    table = isinstance(value, dict) and (not value or value.keys() & IntRange.model_fields.keys())
    return RANGE if table or isinstance(value, Range) else CHOICES


RANGE, CHOICES = "<range>", "<choices>"  # not shown in messages: they stand in no file
Ints = Annotated[Choices[Annotated[int, Field(ge=1, le=LARGEST)]], Tag(CHOICES)]
Floats = Annotated[Choices[Annotated[float, Field(ge=0, le=LARGEST)]], Tag(CHOICES)]
IntDomain = Annotated[Annotated[IntRange, Tag(RANGE)] | Ints, Discriminator(_is_range)]
FloatDomain = Annotated[Annotated[FloatRange, Tag(RANGE)] | Floats, Discriminator(_is_range)]
Kernels = Choices[Kernel]
Strides = Choices[Stride]
Truths = Choices[bool]
Domain = IntRange | FloatRange | tuple[Any, ...]


def _buildable(knob: Domain) -> Domain:
    if maximum(knob) > MOST_BLOCKS:
        raise ValueError(f"{maximum(knob):,} blocks; at most {MOST_BLOCKS:,}")
    return knob


BlocksDomain = Annotated[IntDomain, AfterValidator(_buildable)]


def values(knob: "IntRange | tuple[int, ...]") -> list[int]:
    """All values of a knob of integers, from the lowest on."""
    return sorted(set(knob)) if isinstance(knob, tuple) else [*range(knob.low, knob.high + 1, knob.step)]


def minimum(knob: Domain) -> float:
    """The lowest value that a knob can take."""
    return min(knob) if isinstance(knob, tuple) else knob.low


def maximum(knob: Domain) -> float:
    """The highest value that a knob can take."""
    return max(knob) if isinstance(knob, tuple) else knob.top


def towards_low(knob: Domain, value: float, left: float) -> float:
    """`left` of the way from the knob's lowest value to `value`, on the knob's own grid."""
    if isinstance(knob, tuple):
        below = sorted(choice for choice in knob if choice <= value)
        return float(below[int((len(below) - 1) * left)])
    moved = (value - knob.low) * left
    if not knob.step:
        return knob.low + moved
    return on_step(knob.low + int(moved / knob.step + 1e-6) * knob.step)


def on_step(value: float) -> float:
    """A number of a range with steps as a file writes it, in 6 decimals at most."""
    return round(value, 6)


def holds(knob: Domain, value: float) -> bool:
    """Whether a knob can take a value."""
    if isinstance(knob, tuple):
        return value in knob
    steps = (value - knob.low) / knob.step if knob.step else 0.0
    return knob.low <= value <= knob.high and abs(steps - round(steps)) < 1e-6


def near(knob: Domain, wanted: float, count: int = 5) -> list[float]:
    """The values of a knob that come nearest, best first; all choices of a list."""
    if isinstance(knob, tuple):
        return sorted(set(knob), key=lambda value: abs(value - wanted))
    inside = min(max(wanted, knob.low), knob.top)
    if not knob.step:
        return [inside]
    at = round((inside - knob.low) / knob.step)
    last = round((knob.top - knob.low) / knob.step)
    steps = sorted(range(max(0, at - count), min(last, at + count) + 1), key=lambda step: abs(step - at))
    return [on_step(knob.low + step * knob.step) for step in steps]


def told(knob: Domain) -> str:
    """A knob in words, for messages: `1 to 13`, or `1, 3, 5`."""
    if not isinstance(knob, tuple):
        step = f" in steps of {knob.step:g}" if knob.step and knob.step != 1 else ""
        return f"{knob.low:g} to {knob.high:g}{step}"
    return ", ".join(str(choice) for choice in dict.fromkeys(knob))
