"""When the trials of a search with a second stage must end so that all of it fits the time there is.

`search launch --finish --timeout 8h` is to end in the morning with a confirmed network. So trials end when
what is left of the time is what the second stage takes, but have half of it at least; and where half is too
little for the plan that was asked for, finals are shortened, then fewer networks go on from the trials.

Reads the trials that are done for their pace; writes the shortened plan, and in the end the number of trials,
into the study's row (storage/studies.py). Called by search/launcher/launcher.py while trials are owed.
"""

import math

from sqlalchemy import Engine

from search.study import finish_plan
from search.study.config import StudyConfig
from search.study.finish_plan import FIRST, FinishPlan, duration
from space.errors import RecipeError, UsageError
from storage import candidates, studies

SHARE = 0.5  # of the time, that trials have at least
HALVING = 0.5  # of the second stage, that the rungs take at most where it is shortened
FIRSTS = (FIRST, FIRST // 2, FIRST // 4, 0)  # networks that go on, tried in this order
SLACK = 1.25  # longer than the pace of the trials says: finals augment more, some networks are slower
EVERY = 15.0  # seconds between two looks
CLOSER = 0.05  # of the epochs of the finals: a plan that differs by less is not stored again


class Closing:
    """The watch over the time of one launch. `note` says what it did, for board and end; empty before."""

    def __init__(self, engine: Engine, study_id: int, config: StudyConfig, wanted: FinishPlan) -> None:
        """`wanted` is the plan that was asked for."""
        self.engine, self.study_id, self.config = engine, study_id, config
        self.wanted, self.plan = wanted, wanted
        self.note = ""
        self._next = 0.0  # elapsed seconds at which it looks again

    def look(self, elapsed: float, left: float, workers: int) -> bool:
        """Stores the plan that fits if trials end now, and ends them where it is time: then True.

        `elapsed`, `left`: seconds of this launch, until the nearer of its limits. Raises StudyError where the
        study has gone, and SQLAlchemy's errors for a database out of reach.
        """
        if elapsed < self._next:
            return False
        self._next = elapsed + EVERY
        pace = finish_plan.seconds_an_epoch(candidates.best(self.engine, self.study_id, FIRST))
        if pace is None:
            return False
        after = left - pace * self.config.recipe.epochs  # those that run end first
        try:
            plan = fitting(self.config, self.wanted, after, pace, workers)
        except (UsageError, RecipeError):  # a recipe that cannot be shortened
            plan = self.wanted
        close = elapsed >= SHARE * (elapsed + left) and after <= takes(
            self.config, self.wanted, pace, workers
        )
        if not (close or self._is_another(plan)):
            return False
        if not studies.shorten(self.engine, self.study_id, plan.document(), close=close):
            self._next = math.inf  # the second stage has begun, or may have
            return False
        self.plan = plan
        if close:
            self._next = math.inf
            self.note = (
                f"trials ended after {duration(elapsed)}, to leave time for {finish_plan.describe(plan)}"
            )
        return close

    def _is_another(self, plan: FinishPlan) -> bool:
        was, now = self.plan.finals.recipe.epochs, plan.finals.recipe.epochs
        return plan.rungs != self.plan.rungs or abs(now - was) > CLOSER * was


def takes(config: StudyConfig, plan: FinishPlan, pace: float, workers: int) -> float:
    """Seconds of so many workers for the whole second stage; `pace` is seconds of an epoch of a trial."""
    rungs = sum(_together(rung.networks, workers) * rung.epochs for rung in plan.rungs)
    return SLACK * pace * (rungs + _final(config, plan, workers) * plan.finals.recipe.epochs)


def _together(trainings: int, workers: int) -> int:
    """How many trainings of equal length one worker does, one after another, where all share them."""
    return math.ceil(trainings / max(1, workers))


def _final(config: StudyConfig, plan: FinishPlan, workers: int) -> float:
    """What an epoch more of the finals takes, in epochs of a trial: finals are trained on all images."""
    trainings = (plan.finals.networks + 1) * plan.finals.seeds
    return _together(trainings, workers) * config.data.all_train_images / config.data.train_images


def fitting(config: StudyConfig, wanted: FinishPlan, seconds: float, pace: float, workers: int) -> FinishPlan:
    """The wanted plan where it fits; else the one of most networks in its first rung whose rungs take half of
    the time at most and whose finals are longer than they are. Where none is, finals of one epoch more than
    the trials have.

    Raises UsageError and RecipeError as make_plan() does.
    """
    if takes(config, wanted, pace, workers) <= seconds:
        return wanted
    epochs = seconds / (SLACK * pace)  # of a trial, that one worker has time for
    brief, longest, finalists = config.recipe.epochs, wanted.finals.recipe.epochs, wanted.finals.networks
    for first in FIRSTS:
        rungs = finish_plan.rungs(brief, longest, finalists, first)
        halving = sum(_together(rung.networks, workers) * rung.epochs for rung in rungs)
        last = min(longest, math.floor((epochs - halving) / _final(config, wanted, workers)))
        if last > (rungs[-1].epochs if rungs else brief) and halving <= HALVING * epochs:
            return finish_plan.make_plan(config, wanted, epochs=last, first=first)
    return finish_plan.make_plan(config, wanted, epochs=brief + 1, first=0)
