"""The study as Optuna sees it: its storage, samplers and pruners, and how our ledger answers it.

Optuna proposes and remembers; the ledger (storage/) decides what counts. Nothing is trained here.
"""

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, IntegrityError

from search.optuna_adapter.pruner import STARTUP_TRIALS, make_pruner
from search.optuna_adapter.sampler import Tpe
from search.optuna_adapter.storage import Storage
from search.study.config import Plan, SamplerName
from space.budget import Verdict
from space.errors import StudyError
from storage import candidates, leases
from storage.records import TRAINED, Candidate, Measured, State

MEETINGS = 8  # at a table of Optuna's; each is met once by whoever is second


def quiet() -> None:
    """Optuna's own log lines and its notes on experimental parts are not for our users."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def _storage(url: str) -> Storage:
    """Launchers that meet at an empty database all make Optuna's tables; whoever is second tries again."""
    for attempt in range(1, MEETINGS + 1):
        try:
            return Storage(url)
        except DBAPIError as error:
            made_meanwhile = isinstance(error, IntegrityError) or "already exists" in str(error)
            if not made_meanwhile or attempt == MEETINGS:
                raise
    raise AssertionError("the last attempt returns or raises")


@contextmanager
def opened_storage(url: str) -> Iterator[Storage]:
    """Optuna's tables in the same database, under the same time limits; made where they are not there."""
    storage = _storage(url)
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def create(url: str, name: str, plan: Plan) -> None:
    """Makes Optuna's study; goes on with it where a launch broke off between its record and ours."""
    with opened_storage(url) as storage:
        study = optuna.create_study(
            storage=storage, study_name=name, direction="maximize", load_if_exists=True
        )
        study.set_user_attr("data", plan.data.name)
        study.set_user_attr("budget", str(plan.budget))
        study.set_metric_names(["validation accuracy"])


@contextmanager
def opened(url: str, name: str, plan: Plan) -> Iterator[optuna.Study]:
    """The study with its pruner; the sampler comes with each claim."""
    with opened_storage(url) as storage:
        pruner = make_pruner(plan.pruner, plan.recipe.epochs)
        try:
            study = optuna.load_study(storage=storage, study_name=name, pruner=pruner)
        except KeyError:
            raise StudyError(f"Optuna's part of study {name!r} was deleted; launch another name") from None
        yield study


def make_sampler(
    name: SamplerName, *seed: int, after: optuna.samplers.BaseSampler | None = None
) -> optuna.samplers.BaseSampler:
    """A sampler for one claim: `seed` holds the study's seed, the claim's ordinal and what else must
    differ, so that equal searches are equal and no two workers propose twins.

    It takes over what the one before it knew of the study's finished trials. To work that out anew would cost
    each proposal a look at every trial there is.
    """
    number = _mixed(seed)
    if name == "random":
        return optuna.samplers.RandomSampler(seed=number)
    if name == "gp":
        return optuna.samplers.GPSampler(seed=number, n_startup_trials=STARTUP_TRIALS)
    return Tpe(seed=number, n_startup_trials=STARTUP_TRIALS, after=after)


def _mixed(seed: tuple[int, ...]) -> int:
    from numpy.random import SeedSequence

    return int(SeedSequence(seed).generate_state(1)[0])


def constrain(trial: Trial, verdict: Verdict) -> None:
    """Tells Optuna by how much a network exceeds the budget, if it does."""
    if not verdict.fits:
        for name, violation in verdict.violations.items():
            trial.set_constraint(name, violation)
        # optuna-dashboard 0.21 reads only this older form (optuna#6825).
        trial.storage.set_trial_system_attr(trial._trial_id, "constraints", list(verdict.violations.values()))


def answer(study: optuna.Study, trial: Trial, candidate: Candidate, original: FrozenTrial | None) -> None:
    """Tells Optuna of a proposal that is not trained: over budget is PRUNED, never COMPLETE; a repeat has
    the value of the network it repeats, as far as that is known. It may be said again."""
    with suppress(optuna.exceptions.UpdateFinishedTrialError):  # only its answer was lost
        if original is None:
            study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
            return
        trial.set_user_attr("repeat_of", candidate.repeat_of)
        if original.state == TrialState.COMPLETE:
            study.tell(trial, original.value, skip_if_finished=True)
            return
        if original.state == TrialState.PRUNED and original.last_step is not None:
            trial.report(original.intermediate_values[original.last_step], original.last_step)
        study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)


def recover(study: optuna.Study, lost: Iterable[Candidate]) -> None:
    """Tells Optuna that these trials ended with their workers; that they are owed is in the ledger."""
    for candidate in lost:
        _tell(study, candidate.number, TrialState.FAIL)


def ask_again(study: optuna.Study, broken: Candidate) -> Trial:
    """A trial of the network of one that broke off: the next attempt at a lost one, else the same."""
    dead = trial_of(study, broken.number)
    attempt = broken.attempt + 1 if broken.state == State.LOST else broken.attempt
    again = create_trial(
        state=TrialState.RUNNING,
        params=dead.params,
        distributions=dead.distributions,
        user_attrs={
            "parameters": broken.parameters,
            "macs": broken.macs,
            "retry_of": broken.number,
            "attempt": attempt,
        },
    )
    # Study.add_trial does this and keeps the id to itself.
    return Trial(study, study._storage.create_new_trial(study._study_id, template_trial=again))


def trial_of(study: optuna.Study, number: int) -> FrozenTrial:
    """Optuna's trial of this number."""
    return next(trial for trial in study.get_trials(deepcopy=False) if trial.number == number)


TOLD = {
    State.COMPLETED: TrialState.COMPLETE,
    State.PRUNED: TrialState.PRUNED,
    State.DIVERGED: TrialState.PRUNED,  # it must teach the sampler to stay away; FAIL teaches nothing
    State.OUT_OF_MEMORY: TrialState.PRUNED,
    State.TIMED_OUT: TrialState.PRUNED,
}


def told(
    state: State, outcome: Measured | None, steps: Mapping[int, float]
) -> tuple[TrialState, float | None]:
    """The state and the value that Optuna is to hold of a trial that the ledger holds in this one.

    The value of a trial that was stopped is that of its last step, as study.tell() has it.
    """
    said = TOLD.get(state, TrialState.FAIL)
    value = None
    if said == TrialState.COMPLETE and outcome:
        value = outcome.accuracy
    elif said == TrialState.PRUNED and steps:
        value = steps[max(steps)]
    return said, None if value is None or math.isnan(value) else value


def _tell(study: optuna.Study, number: int, state: TrialState, value: float | None = None) -> None:
    """Whoever is first is heard."""
    with suppress(optuna.exceptions.UpdateFinishedTrialError):  # by another, after `tell` had looked
        study.tell(number, value, state=state, skip_if_finished=True)


def disagreements(study: optuna.Study, rows: Sequence[Candidate]) -> list[str]:
    """One line for each trial of which Optuna and the ledger say different things."""
    known = {trial.number: trial for trial in study.get_trials(deepcopy=False)}
    ours = {row.number: row for row in rows}
    found = [f"trial {n} is in the ledger and not in Optuna's study" for n in ours.keys() - known.keys()]
    for number, trial in known.items():
        row = ours.get(number)
        if row is None:
            # Died between Optuna's answer and our entry: reconcile() has failed it. A waiting one is a retry.
            if trial.state not in (TrialState.FAIL, TrialState.WAITING):
                found.append(f"trial {number} is {trial.state.name} for Optuna and not in the ledger")
        elif row.state != State.RUNNING and not trial.state.is_finished():
            found.append(f"trial {number} is {row.state} and still {trial.state.name} for Optuna")
        elif row.state == State.COMPLETED and trial.value != row.accuracy:
            found.append(f"trial {number} has accuracy {row.accuracy} and {trial.value} for Optuna")
        elif row.state in TRAINED and trial.state != TOLD[row.state]:
            found.append(f"trial {number} is {row.state} and {trial.state.name} for Optuna")
    return sorted(found)


def reconcile(study: optuna.Study, engine: Engine, study_id: int) -> None:
    """Repairs what a death between our row and Optuna's left apart: a trial of Optuna that still runs though
    its candidate has ended, or never reached the ledger. Only while nobody holds a claim."""
    unfinished = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    if not unfinished or leases.running(engine, study_id):
        return
    rows = {row.number: row for row in candidates.candidates(engine, study_id)}
    for frozen in unfinished:
        row = rows.get(frozen.number)
        state = TOLD.get(row.state, TrialState.FAIL) if row else TrialState.FAIL
        value = row.accuracy if row and state == TrialState.COMPLETE else None
        _tell(study, frozen.number, state, value)
