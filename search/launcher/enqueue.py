"""Known networks as the first trials of a search: `search launch --start-from`.

Reads published networks, files and trials; writes WAITING trials into Optuna's study. Each network is
turned into the answers that a sampler would have to give, so that the sampler learns from it as from its
own. It trains nothing. Called by search/commands/launch_session.py.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine

from search.optuna_adapter import study as optuna_study
from search.study import network_reference
from search.study.config import StudyConfig
from space import published
from space.architecture import Architecture
from space.errors import UsageError
from space.membership import suggestions_of
from storage import candidates
from storage.studies import Study

ALL = "published"  # --start-from published: every network of space/published
SHOWN = 3  # networks that are named for one reason to leave them out


@dataclass(frozen=True)
class Starter:
    """A network by name, and the answers that make it; or the reason why the search cannot make it."""

    name: str
    fingerprint: str
    answers: dict[str, Any] | None
    reason: str = ""


def starters(sources: Sequence[str], config: StudyConfig, storage: str) -> list[Starter]:
    """Every network that the sources mean, once. Raises UsageError for one named by itself that cannot be."""
    found: dict[str, Starter] = {}
    for name, architecture, alone in _networks(sources, storage):
        if architecture.fingerprint in found:
            continue
        starter = _starter(name, architecture, config)
        if starter.answers is None and alone:
            raise UsageError(f"--start-from {name}: {starter.reason}")
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
    answers = suggestions_of(config.space, config.budget, config.task, architecture)
    if isinstance(answers, dict):
        return Starter(name, architecture.fingerprint, answers)
    return Starter(name, architecture.fingerprint, None, answers[0])


def enqueue(
    engine: Engine, storage: str, record: Study, config: StudyConfig, found: Sequence[Starter]
) -> int:
    """Puts those that can be made before everything else, unless the study has them; returns how many.

    Raises StorageError, and optuna.exceptions.StorageInternalError, for a database out of reach.
    """
    known = {row.fingerprint for row in candidates.candidates(engine, record.id)}
    fresh = [starter for starter in found if starter.answers and starter.fingerprint not in known]
    if not fresh:
        return 0
    with optuna_study.open_study(storage, record.name, config) as study:
        before = len(study.get_trials(deepcopy=False))
        for starter in fresh:
            note = {"started_from": starter.name}
            study.enqueue_trial(starter.answers or {}, user_attrs=note, skip_if_exists=True)
        return len(study.get_trials(deepcopy=False)) - before


def summary_of(found: Sequence[Starter]) -> list[str]:
    """Lines that say what will be tried first and what cannot be."""
    able = [starter.name for starter in found if starter.answers]
    lines = [f"{len(able)} known networks come first: {', '.join(able)}"] if able else []
    reasons: dict[str, list[str]] = {}
    for starter in found:
        if not starter.answers:
            reasons.setdefault(starter.reason, []).append(starter.name)
    for reason, names in reasons.items():
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        lines.append(f"left out {', '.join(names[:SHOWN])}{more}: {reason}")
    return lines
