"""Networks that a search is to try next: those of `search launch --start-from`, then the baselines and their
variants, and what `search enqueue` brings while it runs.

Reads published networks, files and trials; writes WAITING trials into Optuna's study. Each network is
turned into the answers that a sampler would have to give, so that the sampler learns from it as from its
own. It trains nothing. Called by search/commands/launch_session.py and search/commands/enqueue.py.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Engine

from search.optuna_adapter import study as optuna_study
from search.study import network_reference
from search.study.config import StudyConfig
from space import baselines as first_guesses, cost, published
from space.architecture import Architecture
from space.budget import judge
from space.errors import UsageError
from storage import candidates
from storage.studies import Study

ALL = "published"  # --start-from published: every network of space/published
SHOWN = 3  # networks that are named for one reason to leave them out
SHARE = 3  # one trial in so many may be a baseline: a search of few trials is still a search
VARIANTS_SHARE = 6  # and one in so many a variant of them


@dataclass(frozen=True)
class Starter:
    """A network by name, and the answers that make it; or the reason why the search cannot make it."""

    name: str
    fingerprint: str
    answers: dict[str, Any] | None
    reason: str = ""
    known: bool = True  # one of --start-from
    baseline: str | None = None  # the first guess that it is; known ones may be one too
    variant: bool = False  # of a baseline
    size: str = ""  # of a baseline, or a variant of one, in words


def starters(
    sources: Sequence[str], config: StudyConfig, storage: str, flag: str = "--start-from "
) -> list[Starter]:
    """Every network that the sources mean, once. Raises UsageError for one named by itself that cannot be,
    with the flag that named it."""
    found: dict[str, Starter] = {}
    for name, architecture, alone in _networks(sources, storage):
        if architecture.fingerprint in found:
            continue
        starter = _starter(name, architecture, config)
        if starter.answers is None and alone:
            raise UsageError(f"{flag}{name}: {starter.reason}")
        found[architecture.fingerprint] = starter
    return list(found.values())


def _networks(sources: Sequence[str], storage: str) -> Iterator[tuple[str, Architecture, bool]]:
    """Name, network, and whether it was named by itself; published ones begin with the highest reported."""
    for source in sources:
        if source != ALL:
            found = network_reference.resolve(source, storage)
            yield found.name, found.architecture, True
            continue
        for entry in sorted(published.everything(), key=lambda entry: -(entry.accuracy or 0)):
            yield f"{network_reference.PUBLISHED}{entry.name}", entry.architecture, False


def _starter(name: str, architecture: Architecture, config: StudyConfig) -> Starter:
    answers = config.suggestions_of(architecture)
    if not isinstance(answers, dict):
        return Starter(name, architecture.fingerprint, None, answers[0])
    if excess := judge(architecture, config.budget).excess:
        return Starter(name, architecture.fingerprint, None, excess)
    return Starter(name, architecture.fingerprint, answers)


@dataclass(frozen=True)
class Starters:
    """What comes first in a search, in order. `spared`: baselines for which it has too few trials; variants
    are left out without a word."""

    found: Sequence[Starter] = ()
    spared: int = 0


def with_baselines(found: Sequence[Starter], config: StudyConfig, trials: int) -> Starters:
    """The known networks, then the baselines of the space, a third of so many trials at most, and their
    variants, a sixth at most: before the baselines of a smaller share of the budget than the first, as a
    search may end in time before it comes to those, and they have won none (docs/results.md).

    A baseline that is among the known ones is marked there. One that the space cannot make is kept with its
    reason, as with starters(); a variant that it cannot make is not.
    """
    known = {starter.fingerprint: starter for starter in found}
    able, smaller, left_out = list[Starter](), list[Starter](), list[Starter]()
    for baseline in first_guesses.baselines(config.space, config.budget, config.task):
        starter = _guessed(baseline, config)
        if starter.answers is None:
            left_out.append(starter)
        elif same := known.get(starter.fingerprint):
            known[starter.fingerprint] = replace(same, baseline=baseline.name)
        else:
            of_share = able if baseline.share == first_guesses.first_share(config.space) else smaller
            of_share.append(replace(starter, baseline=baseline.name))
    most = trials // SHARE
    there = known.keys() | {starter.fingerprint for starter in (*able, *smaller)}
    others = first_guesses.variants(config.space, config.budget, config.task)
    varied = [
        replace(starter, variant=True)
        for starter in (_guessed(one, config) for one in others)
        if starter.answers is not None and starter.fingerprint not in there
    ]
    varied = varied[: trials // VARIANTS_SHARE]
    taken, last = able[:most], smaller[: max(0, most - len(able))]
    too_many = len(able) + len(smaller) - len(taken) - len(last)
    return Starters([*known.values(), *taken, *varied, *last, *left_out], too_many)


def _guessed(guess: first_guesses.Baseline, config: StudyConfig) -> Starter:
    network = guess.architecture
    size = f"width {network.stages[0].width}, {cost.total(network).parameters:,} parameters"
    if guess.reason:
        return Starter(guess.name, network.fingerprint, None, guess.reason, known=False)
    return replace(_starter(guess.name, network, config), known=False, size=size)


def enqueue(
    engine: Engine, storage: str, record: Study, config: StudyConfig, found: Sequence[Starter]
) -> int:
    """Puts those that can be made before everything else, unless the study has them; returns how many.

    Raises StorageError, and optuna.exceptions.StorageInternalError, for a database out of reach.
    """
    known = {row.fingerprint for row in candidates.candidates(engine, record.id)}
    fresh = [starter for starter in found if starter.answers is not None and starter.fingerprint not in known]
    if not fresh:
        return 0
    with optuna_study.open_study(storage, record.name, config, engine) as study:
        before = len(study.get_trials(deepcopy=False))
        for starter in fresh:
            named = starter.name if starter.known or starter.variant else None
            notes = {"started_from": named, "baseline": starter.baseline}
            notes = {name: value for name, value in notes.items() if value is not None}
            study.enqueue_trial(starter.answers or {}, user_attrs=notes, skip_if_exists=True)
        return len(study.get_trials(deepcopy=False)) - before


def summary_of(starters: Starters) -> list[str]:
    """Lines that say what will be tried first and what cannot be."""
    known = [starter for starter in starters.found if starter.known]
    plain = [starter for starter in starters.found if not starter.known]
    able = [starter.name for starter in known if starter.answers is not None]
    lines = [f"{len(able)} known networks come first: {', '.join(able)}"] if able else []
    named = [
        (starter, f"{starter.name} ({starter.size})") for starter in plain if starter.answers is not None
    ]
    varied = [place for place, (starter, _) in enumerate(named) if starter.variant]
    first = varied[0] if varied else len(named)
    if first or starters.spared:
        lines.append(_baselines_line([said for _, said in named[:first]], starters.spared))
    if varied:
        listed = ", ".join(said for _, said in named[first : varied[-1] + 1])
        last = ", ".join(said for _, said in named[varied[-1] + 1 :])
        then = f"; then the other baselines: {last}" if last else ""
        lines.append(f"then variants of them that are no baselines: {listed}{then}")
    reasons: dict[str, list[str]] = {}
    for starter in starters.found:
        if starter.answers is None:
            reasons.setdefault(starter.reason, []).append(starter.name)
    for reason, names in reasons.items():
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        lines.append(f"left out {', '.join(names[:SHOWN])}{more}: {reason}")
    return lines


def _baselines_line(guesses: Sequence[str], spared: int) -> str:
    kept = f"; {spared} more would be over a third of the trials" if spared else ""
    if not guesses:
        return f"no baseline: of so few trials one would be over a third (there are {spared})"
    listed = ", ".join(guesses)
    return f"baselines are trained first, to the end (--no-baselines leaves them out): {listed}{kept}"
