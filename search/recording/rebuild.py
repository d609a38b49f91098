"""Makes Optuna's part of a study again from the ledger, where somebody deleted it in the dashboard.

Reads the ledger's rows and epochs; writes Optuna's tables by its public interface. Called by `search db
repair`. A trial's parameters are the answers that make its network, as those are that Optuna had. Where the
space has no such answers (one whose shape was shrunk; one over the budget, unless the width is an answer) its
trial has none, and the sampler does not learn from it.

It is made under another name, and gets its own once it is whole: of one that was broken off nobody takes a
number that the ledger knows, and the next repair begins again.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import Engine

from search.optuna_adapter import care, study as optuna_study
from search.optuna_adapter.ask import GivenSuggestions
from search.recording.reconcile import optuna_outcome
from search.study.config import StudyConfig
from search.study.short_form import short_form
from space.architecture import Architecture
from space.budget import judge
from storage import database
from storage.row_types import Candidate, Epoch, State, TrainingMetrics
from storage.studies import Study

UNFINISHED = "{name} (repair under way)"


def rebuild(
    engine: Engine,
    url: str,
    record: Study,
    rows: Sequence[Candidate],
    epochs: Mapping[int, Sequence[Epoch]],
) -> int:
    """Makes the study with a trial for each row, under its number; returns how many have no parameters.

    `rows` by their numbers; `epochs` by the candidate's id. Raises what open_storage() does, and SQLAlchemy's
    errors where another repair was faster.
    """
    config = StudyConfig.from_record(record.settings)
    unfinished = UNFINISHED.format(name=record.name)
    with database.writing(engine) as connection:
        care.delete(connection, unfinished)  # what one that broke off has left
    optuna_study.create(url, unfinished, config)
    known = {row.number: row for row in rows}
    last = max(known, default=-1)
    trials = [
        _trial(known[number], epochs, config) if number in known else _unknown() for number in range(last + 1)
    ]
    with optuna_study.open_study(url, unfinished, config) as study:
        study.add_trials(trials)
    with database.writing(engine) as connection:
        care.rename(connection, unfinished, record.name)
    with optuna_study.open_study(url, record.name, config) as study:
        optuna_study.identify(study, record.id)
    return sum(not trial.params for trial in trials)


def _unknown() -> FrozenTrial:
    """A number that Optuna gave away and the ledger does not know: its worker died between the two."""
    return create_trial(state=TrialState.FAIL)


def _trial(row: Candidate, epochs: Mapping[int, Sequence[Epoch]], config: StudyConfig) -> FrozenTrial:
    network = Architecture.parse(row.architecture)
    curve = {one.epoch: one.value for one in epochs.get(row.id, ())}
    state, value = _outcome(row, curve)
    params, distributions = _parameters(network, config)
    trial = create_trial(
        state=state,
        value=value,
        params=params,
        distributions=distributions,
        user_attrs=_attributes(row, network),
        intermediate_values=curve,
        **_constraints(row, network, config),
    )
    trial.datetime_start = _local(row.proposed_at)
    trial.datetime_complete = _local(row.finished_at or row.proposed_at)
    return trial


def _outcome(row: Candidate, curve: Mapping[int, float]) -> tuple[TrialState, float | None]:
    """As reconcile.py tells Optuna of it."""
    if row.state == State.OVER_BUDGET:
        return TrialState.PRUNED, None
    accuracy = row.accuracy
    metrics = (
        None if accuracy is None else TrainingMetrics(accuracy, accuracy, 0.0, 0, 0.0, 0.0, score=row.score)
    )
    return optuna_outcome(row.state, metrics, curve)


def _parameters(
    network: Architecture, config: StudyConfig
) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
    answers = config.suggestions_of(network)
    if not isinstance(answers, dict):
        return {}, {}
    asked = GivenSuggestions(answers)
    config.ask(asked)
    return asked.trial.params, asked.trial.distributions


def _attributes(row: Candidate, network: Architecture) -> dict[str, Any]:
    """What everyone who reads the study with Optuna alone sees of a network."""
    found = {
        "parameters": row.parameters,
        "macs": row.macs,
        "fingerprint": row.fingerprint,
        "network": short_form(network),
        "baseline": row.baseline,
        "repeat_of": row.repeat_of,
        "attempt": row.attempt if row.attempt > 1 else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _constraints(row: Candidate, network: Architecture, config: StudyConfig) -> dict[str, Any]:
    if row.state != State.OVER_BUDGET:
        return {}
    violations = judge(network, config.budget).violations
    # optuna-dashboard 0.21 reads only the older form in the system attribute (optuna#6825).
    return {"constraints": violations, "system_attrs": {"constraints": list(violations.values())}}


def _local(moment: datetime) -> datetime:
    """As Optuna has times: local and without a zone."""
    return moment.astimezone().replace(tzinfo=None)
