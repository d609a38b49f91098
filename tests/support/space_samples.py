"""Random documents: hypothesis strategies for every option of a network and of a search space."""

import random
from functools import cache, lru_cache
from typing import Any

from examples import examples
from hypothesis import HealthCheck, settings, strategies as st

from space.architecture import (
    Activation,
    Architecture,
    Block,
    Head,
    MaxPool,
    Pool,
    SqueezeExcitation,
    Stage,
    Stem,
    TailConvolution,
)
from space.space import (
    BlockKnobs,
    FloatRange,
    HeadKnobs,
    IntRange,
    PoolKnobs,
    SameKnobs,
    SearchSpace,
    StageKnobs,
    StageOverride,
    StemKnobs,
    Task,
    WidthKnob,
)
from space.weights import Weighted

# A busy machine is no failure: neither a slow draw nor a slow example.
CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=examples(100))

WIDTHS = st.integers(1, 24)
KERNELS = st.sampled_from((1, 3, 5, 7))
STRIDES = st.integers(1, 4)
DROPOUTS = st.sampled_from((0.0, 0.1, 0.5))
ACTIVATIONS: st.SearchStrategy[Activation] = st.sampled_from(("relu", "leaky_relu", "gelu", "silu", "tanh"))
GATES = st.none() | st.builds(SqueezeExcitation, reduction=st.integers(1, 32))


@st.composite
def max_pools(draw: st.DrawFn) -> MaxPool:
    kernel = draw(st.integers(1, 4))
    return MaxPool(kernel=kernel, stride=draw(STRIDES), padding=draw(st.integers(0, kernel // 2)))


STEMS = st.builds(
    Stem,
    width=WIDTHS,
    kernel=KERNELS,
    stride=STRIDES,
    bias=st.booleans(),
    squeeze_excitation=GATES,
    max_pool=st.none() | max_pools(),
)
STAGES = st.builds(
    Stage,
    blocks=st.integers(1, 3),
    width=WIDTHS,
    kernel=KERNELS,
    stride=STRIDES,
    shortcut_kernel=KERNELS,
    growth=st.sampled_from(("step", "linear")),
)
EXPANSIONS = st.none() | st.integers(2, 8)
KINDS = (
    st.fixed_dictionaries({"kind": st.just("basic"), "convolutions": st.integers(1, 4)})
    | st.fixed_dictionaries(
        {"kind": st.just("bottleneck"), "expansion": EXPANSIONS, "groups": st.integers(1, 6)}
    )
    | st.fixed_dictionaries({"kind": st.just("inverted"), "expansion": EXPANSIONS})
)


@st.composite
def blocks(draw: st.DrawFn) -> Block:
    return Block(
        **draw(KINDS),
        preactivation=draw(st.booleans()),
        residual=draw(st.booleans()),
        shortcut=draw(st.sampled_from(("projection", "padding", "identity"))),
        bias=draw(st.booleans()),
        dropout=draw(DROPOUTS),
        squeeze_excitation=draw(GATES),
    )


TAILS = st.builds(TailConvolution, width=WIDTHS, kernel=KERNELS, stride=STRIDES, bias=st.booleans())
HEADS = st.builds(
    Head,
    hidden=st.lists(WIDTHS, max_size=2).map(tuple),
    dropout=DROPOUTS,
    bias=st.booleans(),
    softmax=st.booleans(),
)


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    """Any network that a document can say, of few channels so that building it is quick."""
    stem, size = draw(STEMS), draw(st.integers(1, 33))
    pool = stem.max_pool
    if pool and pool.map_after((size - 1) // stem.stride + 1) < 1:
        stem = stem.model_copy(update={"max_pool": None})
    parts: dict[str, Any] = {
        "channels": draw(st.integers(1, 4)),
        "image_size": size,
        "classes": draw(st.integers(2, 12)),
        "activation": draw(ACTIVATIONS),
        "stem": stem,
        "stages": tuple(draw(st.lists(STAGES, min_size=1, max_size=4))),
        "block": draw(blocks()),
        "tail": tuple(draw(st.lists(TAILS, max_size=2))),
        "head": draw(HEADS),
    }
    last = Architecture(**parts).maps[-1]
    return Architecture(**parts, pool=draw(pools(last)))


@cache
@st.composite
def pools(draw: st.DrawFn, size: int) -> Pool:
    kind = draw(st.sampled_from(("avg", "max")))
    if draw(st.booleans()):
        return Pool(kind=kind, output=draw(st.integers(1, size)))
    stride = draw(st.none() | st.integers(1, 4))
    return Pool(kind=kind, kernel=draw(st.integers(1, size)), stride=stride)


@cache
@st.composite
def int_knobs(draw: st.DrawFn, most: int) -> IntRange | tuple[int, ...]:
    if draw(st.booleans()):
        return tuple(draw(st.lists(st.integers(1, most), min_size=1, max_size=4)))
    low, high = sorted((draw(st.integers(1, most)), draw(st.integers(1, most))))
    log = draw(st.booleans())
    return IntRange(low=low, high=high, step=1 if log else draw(st.integers(1, 5)), log=log)


@cache
@st.composite
def float_knobs(draw: st.DrawFn, least: float, most: float) -> FloatRange | tuple[float, ...]:
    numbers = st.floats(least, most)
    if draw(st.booleans()):
        return tuple(draw(st.lists(numbers, min_size=1, max_size=4)))
    low, high = sorted((draw(numbers), draw(numbers)))
    step = draw(st.none() | st.sampled_from((0.1, 0.25, 3.0) if most < 100 else (2.5, 1_000.0)))
    if step:
        return FloatRange(low=round(low, 3), high=round(high, 3), step=step)
    return FloatRange(low=low, high=high, log=low > 0 and draw(st.booleans()))


@lru_cache(typed=True)
def some(*values: Any) -> st.SearchStrategy[tuple[Any, ...]]:
    """Some of these choices, as a list or with weights."""
    weights = st.sampled_from((1, 2, 0.5, 7))
    lists = st.lists(st.sampled_from(values), min_size=1, max_size=len(values), unique=True).map(tuple)
    return lists | st.dictionaries(st.sampled_from(values), weights, min_size=1).map(Weighted)


GRAINS = st.lists(st.sampled_from((1, 3, 8, 16)), min_size=1, max_size=3)
SHARES = st.floats(0.01, 1)


@cache
def stage_knobs(blocks: int, ratio: float) -> dict[str, st.SearchStrategy[Any]]:
    return {
        "blocks": int_knobs(blocks),
        "kernel": some(1, 3, 5, 7),
        "shortcut_kernel": some(1, 3),
        "width_ratio": float_knobs(0.0, ratio),
        "stride": some(1, 2, 3),
        "growth": some("step", "linear"),
    }


@cache
def overrides(deepest: int, blocks: int, ratio: float) -> st.SearchStrategy[dict[str, StageOverride]]:
    knobs = {name: st.none() | knob for name, knob in stage_knobs(blocks, ratio).items()}
    return st.dictionaries(st.integers(1, deepest).map(str), st.builds(StageOverride, **knobs), max_size=2)


@st.composite
def spaces(draw: st.DrawFn, blocks: int = 13, width: int = 512, ratio: float = 4.0) -> SearchSpace:
    """Any space within these limits. Strategies are made once: to make one takes longer than a draw of it."""
    knobs = stage_knobs(blocks, ratio)
    grains = draw(GRAINS)
    low = draw(st.integers(1, width))
    depth = draw(int_knobs(6))
    deepest = max(depth) if isinstance(depth, tuple) else depth.top
    shares = sorted((draw(SHARES), draw(SHARES)))
    stages = draw(overrides(deepest, blocks, ratio))
    same = {name: draw(some(False, True)) for name in ("blocks", "kernel", "shortcut_kernel", "growth")}
    own = any(stage.width_ratio is not None for stage in stages.values())
    same["width_ratio"] = (False, True) if own else draw(some(False, True))
    return SearchSpace(
        depth=depth,
        budget_share=FloatRange(low=shares[0], high=shares[1]),
        width=WidthKnob(
            low=low, high=low + draw(st.integers(max(grains), width + 16)), round_to=tuple(grains)
        ),
        stem=StemKnobs(
            width_ratio=draw(float_knobs(0.0, ratio)),
            kernel=draw(some(1, 3, 7)),
            stride=draw(some(1, 2)),
            max_pool=draw(some(False, True)),
        ),
        stage=StageKnobs(**{name: draw(knob) for name, knob in knobs.items()}),
        stages=stages,
        same=SameKnobs(**same),
        pool=PoolKnobs(
            kind=draw(some("avg", "max")), size=draw(some(1, 2, 4)), window=draw(some(0, 1, 3, 5))
        ),
        head=HeadKnobs(
            dropout=draw(float_knobs(0.0, 0.9)),
            form=draw(some("linear", "hidden", "tail", "softmax")),
            hidden=draw(int_knobs(2_000)),
        ),
        block=BlockKnobs(
            convolutions=draw(some(1, 2, 3)),
            dropout=draw(float_knobs(0.0, 0.9)),
            activation=draw(some("relu", "gelu")),
            squeeze_excitation=draw(some("none", "stem", "block")),
            preactivation=draw(some(False, True)),
            kind=draw(some("basic", "bottleneck", "inverted")),
            expansion=draw(some(2, 3, 4, 6, 16)),
            groups=draw(some(1, 2, 3, 32)),
            shortcut=draw(some("projection", "padding", "identity")),
        ),
    )


TASKS = st.builds(
    Task,
    channels=st.sampled_from((1, 3)),
    image_size=st.sampled_from((1, 2, 5, 8, 28, 32, 64)),
    classes=st.sampled_from((2, 10, 1_000)),
)


class Dice:
    """Answers at random, and remembers: what optuna.Trial does for a study without a sampler."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.answers: dict[str, Any] = {}

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        assert not (log and step != 1) and (high - low) % step == 0
        return self._keep(name, self.random.randrange(low, high + 1, step))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        assert low < high and not (log and step)
        if step is None:
            return self._keep(name, self.random.uniform(low, high))
        return self._keep(name, min(high, low + step * self.random.randint(0, round((high - low) / step))))

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self._keep(name, self.random.choice(choices))

    def _keep(self, name: str, answer: Any) -> Any:
        assert name not in self.answers, "asked twice"
        self.answers[name] = answer
        return answer
