"""The answers that say what a proposed network is, in place of those that were drawn for it.

What is drawn is not always what is made: a kernel larger than its map becomes a smaller one, a shape too
large for the budget is shrunk. A sampler that remembers the draw learns of kernels that nobody trained. Asked
by search/study/config.py before a trial is stored. As little as possible is changed: an answer that the
network does not contradict stays as it was drawn, one without effect too, and a ratio of widths is as it was
before rounding. It reads and writes nothing, and knows no sampler.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from space import cost
from space.architecture import Architecture
from space.budget import Budget
from space.domains import near
from space.inverse import shape_of
from space.membership import Answers, answers_of
from space.same import SHARED
from space.sampling import Proposal, ask_share, ask_width, draw, plain_proposal, proposal
from space.skeleton import Skeleton
from space.space import SearchSpace, Task

SHARE, WIDTH = "budget_share", "width"


@dataclass(frozen=True)
class Effective:
    """Answers of which `propose` makes the same network, and the names of those that still say something else
    than it is: the space has no answer that does."""

    answers: dict[str, Any]
    differs: tuple[str, ...] = ()


def effective(
    space: SearchSpace, budget: Budget, task: Task, drawn: Mapping[str, Any], made: Proposal
) -> Effective:
    """What to store of a proposal that was made of these answers, in the order of the questions."""
    used = _used(made.architecture, budget)
    wanted, differs = _wanted(space, made, drawn)
    again = partial(proposal, space, budget, task)
    own: float = drawn.get(SHARE, space.budget_share.low)
    for share in _shares(space, own, used):
        answers = _asked(space, {**wanted, SHARE: share}, drawn, ask_share)
        if _proven(made, drawn, answers, again):
            return Effective(answers, _named(answers, differs, SHARE if used > share else None))
    return _as_drawn(drawn, answers, _named(drawn, differs, SHARE if used > own else None))


def plain_effective(space: SearchSpace, task: Task, drawn: Mapping[str, Any], made: Proposal) -> Effective:
    """The same of a proposal that no budget holds: its width is the one that the network has."""
    wanted, differs = _wanted(space, made, drawn)
    wanted[WIDTH] = made.architecture.stages[0].width
    answers = _asked(space, wanted, drawn, ask_width)
    if _proven(made, drawn, answers, partial(plain_proposal, space, task)):
        return Effective(answers, _named(answers, differs))
    return _as_drawn(drawn, answers, _named(drawn, differs))


def _used(network: Architecture, budget: Budget) -> float:
    """The share of the tightest limit, to the bit as Budget.allows() reckons it."""
    spent = cost.total(network)
    limits = ((spent.parameters, budget.max_parameters), (spent.macs, budget.max_macs))
    return max(x / limit for x, limit in limits if limit is not None)


def _shares(space: SearchSpace, own: float, used: float) -> list[float]:
    """Shares to try: the one that was drawn and the lowest that holds the network, the better one first."""
    lowest = sorted(share for share in near(space.budget_share, used) if share >= used)[:1]
    return [own, *lowest] if used <= own else [*lowest, own]


def _wanted(
    space: SearchSpace, made: Proposal, drawn: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Answers to all questions as the network is, and the names of those that cannot say it."""
    network = made.architecture
    shape = made.made or shape_of(space, network)[0] or made.drawn
    shape, differs = _built(space, shape, network)
    answers = answers_of(space, shape)
    for name in SHARED:
        same = f"same_{name}"
        if drawn.get(same) is False:  # equal values may be said one by one as well
            answers[same] = False
        elif answers[same] or False in getattr(space.same, name) or name not in drawn:
            continue
        else:  # all stages must share a value that not all of them have
            answers |= {same: True, name: drawn[name]}
            differs = (*differs, name)
    if all(stage.blocks == 1 for stage in shape.stages):  # what single blocks grow by is without effect
        answers |= {name: drawn[name] for name in ("same_growth", "growth") if name in drawn}
    return answers, differs


def _built(space: SearchSpace, shape: Skeleton, network: Architecture) -> tuple[Skeleton, tuple[str, ...]]:
    """The shape with the kernels and the pool that the network has, as space/skeleton.py realises them; and
    what of its pool the space cannot say."""
    stages = tuple(
        replace(stage, kernel=built.kernel, shortcut_kernel=built.shortcut_kernel)
        for stage, built in zip(shape.stages, network.stages, strict=True)
    )
    shape = replace(shape, stages=stages, stem_kernel=network.stem.kernel)
    size, differs = network.pool.output, []
    if size is None:  # a window; a size without effect stays
        return shape, ()
    if shape.pool_window and 0 in space.pool.window:
        shape = replace(shape, pool_window=0)
    elif shape.pool_window:
        differs.append("pool_window")
    if size in space.pool.size:
        shape = replace(shape, pool_size=size)
    else:
        differs.append("pool_size")
    return shape, tuple(differs)


def _asked(
    space: SearchSpace,
    wanted: Mapping[str, Any],
    drawn: Mapping[str, Any],
    ask_last: Callable[[SearchSpace, Answers], object],
) -> dict[str, Any]:
    """Those answers that are asked for; equal ones as they were drawn."""
    answers = Answers(dict(wanted), {})
    draw(space, answers)
    ask_last(space, answers)
    return {
        name: drawn[name] if name in drawn and drawn[name] == value else value
        for name, value in answers.asked.items()
    }


def _proven(
    made: Proposal,
    drawn: Mapping[str, Any],
    answers: Mapping[str, Any],
    again: Callable[[Answers], Proposal],
) -> bool:
    """Whether these answers make the network; what was drawn does."""
    if answers == drawn:
        return True
    return again(Answers(dict(answers), {})).architecture.fingerprint == made.architecture.fingerprint


def _named(answers: Mapping[str, Any], differs: tuple[str, ...], last: str | None = None) -> tuple[str, ...]:
    """Those of the names that are among the answers."""
    return tuple(name for name in (*differs, last) if name is not None and name in answers)


def _as_drawn(drawn: Mapping[str, Any], answers: Mapping[str, Any], differs: tuple[str, ...]) -> Effective:
    """The draw as it is, where nothing better makes the network, and all that is otherwise in it."""
    other = [name for name, value in drawn.items() if name not in answers or answers[name] != value]
    return Effective(dict(drawn), tuple(dict.fromkeys([*other, *differs])))
