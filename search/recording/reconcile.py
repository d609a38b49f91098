"""What Optuna is told of a trial that is not trained or was lost, and how it is made to agree with ours.

Reads both, and writes to Optuna's study alone, by its public interface: the ledger is what counts. Called by
launchers and workers, by recovery.py, and by `search db`; writer.py, spool.py and rebuild.py ask it what an
end is to Optuna.
"""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

import optuna
from optuna.trial import Trial, TrialState
from sqlalchemy import Engine

from search.optuna_adapter import stored
from search.optuna_adapter.stored import TrialEnd
from search.recording.outage import one_line
from storage import candidates, leases
from storage.row_types import TRAINED, Candidate, Ended, State, TrainingMetrics

logger = logging.getLogger(__name__)

QUEUE_NOTES = ("baseline", "started_from")  # user attributes that a queued trial may have


def tell_untrained(study: optuna.Study, trial: Trial, candidate: Candidate) -> None:
    """Tells Optuna of a proposal that is not trained. It may be said again.

    Over budget is PRUNED, never COMPLETE, so that the sampler stays away. A repeat is FAIL, which samplers
    leave out: told the original's value it would stand among the good trials beside it, and be proposed once
    more (docs/search.md has what that costs).
    """
    with suppress(optuna.exceptions.UpdateFinishedTrialError):  # only its answer was lost
        if candidate.repeat_of is None:
            study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
            return
        trial.set_user_attr("repeat_of", candidate.repeat_of)
        study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)


def tell_lost(study: optuna.Study, lost: Iterable[Candidate]) -> None:
    """Tells Optuna that these trials ended with their workers; that they are owed is in the ledger.

    Raises optuna.exceptions.StorageInternalError where the database is away, as all that tells
    Optuna does here.
    """
    for candidate in lost:
        _tell(study, candidate.number, TrialState.FAIL)


OPTUNA_STATES = {
    State.COMPLETED: TrialState.COMPLETE,
    State.PRUNED: TrialState.PRUNED,
    State.DIVERGED: TrialState.PRUNED,  # it must teach the sampler to stay away; FAIL teaches nothing
    State.OUT_OF_MEMORY: TrialState.PRUNED,
    State.TIMED_OUT: TrialState.PRUNED,
}


def optuna_outcome(
    state: State, outcome: TrainingMetrics | None, steps: Mapping[int, float]
) -> tuple[TrialState, float | None]:
    """The state and the value that Optuna is to hold of a trial that the ledger holds in this one.

    The value of a trial that was stopped is that of its last step, as study.tell() has it.
    """
    said = OPTUNA_STATES.get(state, TrialState.FAIL)
    value = None
    if said == TrialState.COMPLETE and outcome:
        value = outcome.value
    elif said == TrialState.PRUNED and steps:
        value = steps[max(steps)]
    return said, None if value is None or math.isnan(value) else value


def _state_of(row: Candidate) -> TrialState:
    """As `tell_untrained` and the recorder say it."""
    if row.state == State.OVER_BUDGET:
        return TrialState.PRUNED
    return OPTUNA_STATES.get(row.state, TrialState.FAIL)


def _tell(study: optuna.Study, number: int, state: TrialState, value: float | None = None) -> None:
    """Whoever is first is heard. Where Optuna's part of the trial is gone the ledger counts."""
    try:
        # study.tell() makes a ValueError of a number that is not there.
        study._storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
        study.tell(number, value, state=state, skip_if_finished=True)
    except optuna.exceptions.UpdateFinishedTrialError:
        pass  # by another, after `tell` had looked
    except KeyError as error:
        logger.info("trial %d: Optuna's part of it is gone, the ledger counts: %s", number, one_line(error))


def disagreements(study: optuna.Study, rows: Sequence[Candidate]) -> list[str]:
    """One line for each trial of which Optuna and the ledger say different things."""
    trials = study.get_trials(deepcopy=False)
    return compare({one.number: TrialEnd(one.state.name, one.value) for one in trials}, rows)


def compare(known: Mapping[int, TrialEnd], rows: Sequence[Candidate | Ended]) -> list[str]:
    """The same of what Optuna has, by its numbers, and what the ledger has."""
    ours = {row.number: row for row in rows}
    found = [f"trial {n} is in the ledger and not in Optuna's study" for n in ours.keys() - known.keys()]
    for number, trial in known.items():
        row = ours.get(number)
        if row is None:
            # Died between Optuna's answer and our entry: reconcile() has failed it. A waiting one is a retry.
            if trial.state not in ("FAIL", "WAITING"):
                found.append(f"trial {number} is {trial.state} for Optuna and not in the ledger")
        elif row.state != State.RUNNING and not trial.is_finished:
            found.append(f"trial {number} is {row.state} and still {trial.state} for Optuna")
        elif row.state == State.COMPLETED and trial.value != row.value:
            what = "accuracy" if row.score is None else "score"
            found.append(f"trial {number} has {what} {row.value} and {trial.value} for Optuna")
        elif row.state in TRAINED and trial.state != OPTUNA_STATES[row.state].name:
            found.append(f"trial {number} is {row.state} and {trial.state} for Optuna")
    return sorted(found)


def queue_again(study: optuna.Study, engine: Engine, study_id: int, worker: str = "") -> None:
    """Queues networks again that somebody took from Optuna's queue and never entered into the ledger: its
    worker died in between, or never heard that it had one. `worker` is who asks, and enters none now."""
    taken = stored.taken_and_not_entered(engine, study.study_name, study_id, worker)
    if not taken:
        return
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial.number in taken:
            logger.info("trial %d was taken from the queue and never begun: it is queued again", trial.number)
            notes = {name: trial.user_attrs[name] for name in QUEUE_NOTES if name in trial.user_attrs}
            study.enqueue_trial(trial.system_attrs[stored.QUEUED], user_attrs=notes)
            _tell(study, trial.number, TrialState.FAIL)


def reconcile(study: optuna.Study, engine: Engine, study_id: int) -> None:
    """Repairs what a death between our row and Optuna's left apart: a trial of Optuna that still runs though
    its candidate has ended, or never reached the ledger. Only while nobody holds a claim."""
    unfinished = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    if not unfinished or leases.running(engine, study_id):
        return
    queue_again(study, engine, study_id)
    rows = {row.number: row for row in candidates.candidates(engine, study_id)}
    for frozen in unfinished:
        row = rows.get(frozen.number)
        state = _state_of(row) if row else TrialState.FAIL
        value = row.value if row and state == TrialState.COMPLETE else None
        _tell(study, frozen.number, state, value)
