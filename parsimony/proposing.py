"""Networks drawn at random from a search space within a budget, as a search draws its first ones.

Reads a file of a space; writes nothing. It knows no study, and loads neither torch nor Optuna.
"""

from collections.abc import Iterator
from operator import index
from pathlib import Path

from pydantic import ValidationError

from parsimony.network import Network
from space import sampling, space as spaces
from space.budget import Budget
from space.document import first_problem
from space.errors import ExhaustedError, UsageError
from space.random_suggest import RandomSuggest
from space.space import SearchSpace, Task

IN_VAIN = 200  # draws in a row that bring nothing new


def propose(
    space: str | Path | SearchSpace | None = None,
    budget: int | Budget = 5_000_000,
    n: int = 1,
    *,
    channels: int = 3,
    image_size: int = 32,
    classes: int = 10,
    seed: int = 0,
) -> list[Network]:
    """n different networks of a space that fit a budget; the same for the same arguments.

    space: a file as --space takes it; the default space without one. budget: trainable parameters at most, or
    a Budget(max_parameters, max_macs). channels, image_size (pixels a side) and classes are of the images.

    Raises SpaceError for a bad space, NothingFitsError where not even its smallest network fits, UsageError
    for an n or a budget below 1 and for images that no network can take, ExhaustedError where the space has
    fewer networks.
    """
    if n < 1:
        raise UsageError(f"n {n}: give a positive number")
    try:
        task = Task(channels=channels, image_size=image_size, classes=classes)
    except ValidationError as error:
        raise UsageError(first_problem(error, Task)) from None
    found = space if isinstance(space, SearchSpace) else _space(space)
    found = found.for_images(image_size)
    found.require_geometry(image_size)
    limits = budget if isinstance(budget, Budget) else Budget(index(budget))
    sampling.require_smallest(found, limits, task)
    return list(_drawn(found, limits, task, n, seed))


def _space(source: str | Path | None) -> SearchSpace:
    return spaces.load(Path(source).expanduser()) if source is not None else spaces.default()


def _drawn(space: SearchSpace, budget: Budget, task: Task, n: int, seed: int) -> Iterator[Network]:
    suggest, seen, in_vain = RandomSuggest(seed), set[str](), 0
    while len(seen) < n:
        suggest.clear()
        drawn = sampling.propose(space, budget, task, suggest)
        if drawn.fingerprint in seen:
            in_vain += 1
            if in_vain == IN_VAIN:
                raise ExhaustedError(f"{len(seen)} networks were found, and {in_vain} draws brought no other")
            continue
        seen.add(drawn.fingerprint)
        in_vain = 0
        yield Network(f"proposal-{len(seen) - 1}", drawn, budget=budget)
