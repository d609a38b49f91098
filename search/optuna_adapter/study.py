"""The study as Optuna sees it: makes it, opens it with its pruner, and tells it of a network over the budget.

Reads and writes Optuna's tables alone. Optuna proposes and remembers; the ledger (storage/) decides what
counts. Called by the launcher, by workers, and by commands that repair or recover.
"""

import shlex
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import optuna
from optuna.trial import Trial
from sqlalchemy import Engine

from search.optuna_adapter import stored
from search.optuna_adapter.pruner import make_pruner
from search.optuna_adapter.storage import open_storage
from search.study import score as scores
from search.study.config import StudyConfig
from space.budget import Verdict
from space.errors import StudyError


def quiet() -> None:
    """Optuna's own log lines and its notes on experimental parts are not for our users."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def create(url: str, name: str, config: StudyConfig) -> None:
    """Makes Optuna's study; goes on with it where a launch broke off between its record and ours.

    Raises what open_storage() does.
    """
    with open_storage(url) as storage:
        study = optuna.create_study(
            storage=storage, study_name=name, direction="maximize", load_if_exists=True
        )
        study.set_user_attr("data", config.data.name)
        study.set_user_attr("budget", str(config.budget))
        study.set_metric_names([f"validation {scores.WORDS[config.score]}"])


def has_trials(url: str, name: str) -> bool:
    """Whether Optuna has a study of this name with a trial in it. Raises what open_storage() does."""
    with open_storage(url) as storage:
        try:
            return storage.get_n_trials(storage.get_study_id_from_name(name)) > 0
        except KeyError:
            return False


@contextmanager
def open_study(
    url: str, name: str, config: StudyConfig, ledger: Engine | None = None
) -> Iterator[optuna.Study]:
    """The study of this name in the ledger, with its pruner; the sampler comes with each claim. One that was
    renamed in the dashboard is found by the id that it has in the ledger. `ledger` as for open_storage().

    Raises StudyError where Optuna's part of it is gone, and what open_storage() does.
    """
    with open_storage(url, ledger=ledger) as storage:
        pruner = make_pruner(config.pruner, config.recipe.epochs)
        try:
            study = optuna.load_study(storage=storage, study_name=name, pruner=pruner)
        except KeyError:
            theirs = stored.names(storage.engine).get(name)
            if theirs is None:
                raise StudyError(gone(name)) from None
            study = optuna.load_study(storage=storage, study_name=theirs, pruner=pruner)
        yield study


def gone(name: str) -> str:
    """What to say of a study whose part in Optuna's tables was deleted."""
    repair = f"search db repair {shlex.quote(name)}"
    return f"Optuna's part of study {name!r} was deleted: `{repair}` makes it again from the ledger"


def require_there(study: optuna.Study, engine: Engine, name: str) -> None:
    """Raises StudyError where a study that was opened is no longer there: somebody deleted or renamed it in
    the dashboard. `name` is that in the ledger, `engine` of its database."""
    try:
        study.get_trials(deepcopy=False)
    except KeyError:
        if name in stored.names(engine):
            again = "start what was at it again"
            raise StudyError(f"study {name!r} was renamed in the dashboard meanwhile: {again}") from None
        raise StudyError(gone(name)) from None


def identify(study: optuna.Study, ledger_id: int) -> None:
    """Notes in Optuna's study the id that it has in the ledger, if that is not there yet."""
    if study.user_attrs.get(stored.LEDGER_ID) != ledger_id:
        study.set_user_attr(stored.LEDGER_ID, ledger_id)


def constrain(trial: Trial, verdict: Verdict) -> None:
    """Tells Optuna by how much a network exceeds the budget, if it does.

    Raises optuna.exceptions.UpdateFinishedTrialError where the trial has ended, and what the storage does.
    """
    if not verdict.fits:
        for name, violation in verdict.violations.items():
            trial.set_constraint(name, violation)
        # optuna-dashboard 0.21 reads only this older form (optuna#6825).
        trial.storage.set_trial_system_attr(trial._trial_id, "constraints", list(verdict.violations.values()))
