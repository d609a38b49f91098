"""When the trials of a search with a second stage must end so that all of it fits the time there is.

`search launch --finish --timeout 8h` is to end in the morning with a confirmed network. So trials end when
what is left of the time is what the second stage takes, but have half of it at least; and where half is too
little for the plan that was asked for, finals are shortened; where they would be less than half as long, they
are of one network, which the first seed chooses, and fewer networks go on from the trials. Where two thirds
of the time would not make them half as long either, they gain more by epochs than the search by trials, and
trials have a third of it, once there are a few. Where even the shortest second stage would not fit much
longer they end at once: a winner that is confirmed goes before more trials. A search whose trials are done
has its plan shortened before its workers start. A trial that has run twice as long as others when the second
stage needs all that is left is given up: a network of few multiply-accumulates may take ten times as long,
and nobody goes on before the last trial has ended.

Reads the trials that are done for their pace, and what is trained of the second stage; writes the shortened
plan, beside the one that was asked for, and in the end the number of trials into the study's row
(storage/studies.py). A second stage that is under way keeps its plan, but for finals that turn out to have
time for more epochs, or too little for these (search/study/finals_length.py). Called by
search/launcher/launcher.py.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Engine

from search.settings import FINALISTS
from search.study import finish_plan, halving, second_stage
from search.study.config import StudyConfig
from search.study.finish_plan import FIRST, SLACK, FinishPlan, Limit, duration
from space.errors import RecipeError, UsageError
from storage import candidates, leases, rungs, studies
from storage.row_types import TRAINED, Candidate, RungEntry, RungTraining, Stage, State
from storage.studies import Study

SHARE = 0.5  # of the time, that trials have at least
SHORT_SHARE = 1 / 3  # the same where finals stay short however few trials there are: docs/results.md
ENOUGH = 12  # trials that have ended by then, else they go on up to SHARE: the first guesses and some more
LONG = 0.5  # of the epochs that were asked for: shorter finals are of one network, beside the best baseline
CONTENDERS = 4  # from which they choose it at most, the best baseline among them
HALVING = 0.5  # of the second stage, that the rungs take at most where its finals are shorter than that
FIRSTS = (*range(FIRST, 2, -1), 0)  # networks that go on, tried in this order; few of them make no rung
EVERY, EVERY_SHARE = 15.0, 1 / 20  # seconds between two looks, of the time at most
MARGIN = 2  # looks that trials end early: with the look after this one the second stage would not fit
STARTING, STARTING_SHARE = 30.0, 0.1  # seconds that workers load libraries for, of the time at most
OVERDUE = 2.0  # times as long as a trial takes: one that has run for so long is given up where time is short
GIVEN_UP = "too slow, with worker {worker}: the second stage needed the time"
CLOSER = 0.05  # of the epochs of the finals: a plan that differs by less is not stored again


@dataclass(frozen=True)
class Begun:
    """What of a second stage is there already: trainings of it, and the trials, by which they were chosen.

    `networks`: how many may come into it, None where that is not known; `slowest`: how many times as long as
    usual the slowest of those takes that go on.
    """

    rows: Sequence[Candidate] = ()
    trainings: Sequence[RungTraining] = ()
    networks: int | None = None
    slowest: float = 1.0

    def is_under_way(self, plan: FinishPlan) -> bool:
        """Whether a training waits or runs, which another plan would make one of no rung; or the finals have
        chosen whose other seeds are trained, which another length would make them choose again."""
        if any(not one.has_ended for one in self.trainings):
            return True
        *_, before, last = (None, None, *halving.reached(plan, self.rows, self.trainings))
        return bool(before and before.is_first_turn and last and last.missing)

    def ended(self, plan: FinishPlan) -> dict[tuple[Stage, int], int]:
        """How many trainings of each rung and of the finals have ended, by epochs, if trials ended now."""
        found = dict[tuple[Stage, int], set[RungEntry]]()  # two turns of finals share some
        for rung in halving.reached(plan, self.rows, self.trainings):
            of = found.setdefault((rung.stage, rung.epochs), set())
            of |= {one.entry for one in rung.entered if one.has_ended}
        return {rung: len(of) for rung, of in found.items()}

    def strays(self, plan: FinishPlan) -> list[int]:
        """Epochs of the trainings that are of no rung, and are made all the same: they wait or run."""
        reached = halving.reached(plan, self.rows, self.trainings)
        entered = {one.id for rung in reached for one in rung.entered}
        return [one.epochs for one in self.trainings if not one.has_ended and one.id not in entered]


def begun(engine: Engine, study_id: int) -> Begun:
    """That of a study; all its trials are read where there is any training."""
    trainings = rungs.of_study(engine, study_id)
    rows = candidates.candidates(engine, study_id) if trainings else ()
    tally = candidates.tally(engine, study_id)
    slowest = finish_plan.slowest(candidates.best(engine, study_id, FIRST))
    return Begun(rows, trainings, tally[State.COMPLETED] + tally[State.RUNNING], slowest)


class Closing:
    """The watch over the time of one launch. `note` says what it did, for board and end; empty before."""

    def __init__(self, engine: Engine, study_id: int, config: StudyConfig) -> None:
        self.engine, self.study_id, self.config = engine, study_id, config
        self.note = ""
        self._next = 0.0  # elapsed seconds at which it looks again
        self._closed_at: float | None = None  # elapsed seconds at which it ended the trials
        self._closed_to = 0  # trials that are left since it ended them; somebody may ask for more of them
        self._looks_on = 0.0  # elapsed seconds at which it looks for stragglers again
        self._given_up: list[int] = []  # trials that were too slow for it

    def begin(self, seconds: float, workers: int, devices: int | None = None) -> bool:
        """Before workers start, or once those of another launch have gone: shortens the second stage of a
        search whose trials are done to the time that this launch has; or were closed in time before, so that
        those which ran then are the last. One that is over is left alone; one that is under way, or whose
        trials are owed, gets the limit alone: the last of these may end before there is a look at them.
        `devices`: as in finish_plan.Limit. Returns whether that is done: a worker may have begun the second
        stage meanwhile.

        Raises StudyError where the study has gone, and SQLAlchemy's errors for a database out of reach.
        """
        record = studies.get(self.engine, self.study_id)
        stage, pace = second_stage.load(self.engine, record), self._pace()
        if stage is None or stage.is_over:
            return True
        there, limit = begun(self.engine, self.study_id), self._limit(seconds, workers, devices)
        was = plan = stage.plan
        is_closed = was.closed_from is not None and not was.exhausted
        is_next = (stage.has_its_trials or is_closed) and not there.is_under_way(was)
        if pace is not None and is_next:
            seconds -= min(STARTING, STARTING_SHARE * seconds)
            seconds -= _together(stage.owed, workers) * pace * self.config.recipe.epochs
            plan = self._fitting(was.whole, seconds, pace, workers, there)
        plan = plan.with_wanted(was.whole, was.closed_from, limit, exhausted=was.exhausted)
        by, entered = record.finish, len(stage.trainings)
        if not studies.replace_finish(self.engine, self.study_id, plan.document(), by=by, entered=entered):
            return False
        if is_next:
            self._closed_to = 0 if stage.has_its_trials else record.trials
            self.note = _shortened(plan)
        return True

    def look(self, elapsed: float, left: float, workers: int, devices: int | None = None) -> bool:
        """Stores the plan that fits if trials end now, and ends them where it is time: then True.

        `elapsed`, `left`: seconds of this launch, until the nearer of its limits; `devices` as in begin().
        Raises StudyError where the study has gone, and SQLAlchemy's errors for a database out of reach.
        """
        if elapsed < self._next:
            return False
        between = between_looks(elapsed + left)
        record, pace = studies.get(self.engine, self.study_id), self._pace()
        if pace is not None:  # else the first trial to end is looked at when it does: all may end before long
            self._next = elapsed + between
        stored = FinishPlan.from_record(record.finish)
        if stored and (self.note or stored.wanted):  # its finals may have another length by now
            self.note = self._note(stored, record)
        if stored is None or pace is None or record.trials <= self._closed_to:
            return False
        there = begun(self.engine, self.study_id)
        after = left - pace * self.config.recipe.epochs  # those that run end first
        is_under_way = there.is_under_way(stored)
        wanted = stored if is_under_way else stored.whole
        plan = wanted
        if not is_under_way:
            plan = self._fitting(wanted, after, pace, workers, there)
        by_then = after - MARGIN * between
        close = elapsed >= self._share(plan, wanted) * (elapsed + left) and by_then <= takes(
            self.config, wanted, pace, workers, there
        )
        if not close and not is_under_way:
            shortest = self._fitting(wanted, 0.0, pace, workers, there)
            needs = takes(self.config, shortest, pace, workers, there)
            close = by_then <= needs <= SLACK * after
        if not (close or _is_another(plan, stored, workers, devices)):
            return False
        closed_from = max(stored.closed_from or 0, record.trials) if close else stored.closed_from
        exhausted, limit = stored.exhausted and not close, self._limit(left, workers, devices)
        plan = plan.with_wanted(stored.whole, closed_from, limit, exhausted=exhausted)
        if not studies.shorten(self.engine, self.study_id, plan.document(), close=close):
            return False  # the second stage has begun, or may have
        if close:
            record = studies.get(self.engine, self.study_id)
            self._closed_to, self._closed_at = record.trials, elapsed
            self.note = self._note(plan, record)
        return close

    def stragglers(self, elapsed: float, left: float, workers: int) -> list[Candidate]:
        """Gives up trials that have run OVERDUE times as long as trials do, while the second stage needs all
        of the time that is left, which it has only once they have ended; returns them. What they trained is
        lost, and another launch that asks for more trials trains them again. `elapsed` and `left` as in
        look(); raises as it does.
        """
        if not self._closed_to or elapsed < self._looks_on:
            return []
        self._looks_on = elapsed + between_looks(elapsed + left)
        record, pace = studies.get(self.engine, self.study_id), self._pace()
        plan = FinishPlan.from_record(record.finish)
        if plan is None or pace is None or record.trials > self._closed_to:
            return []
        there = begun(self.engine, self.study_id)
        if there.is_under_way(plan) or takes(self.config, plan, pace, workers, there) <= left:
            return []
        longest = OVERDUE * pace * self.config.recipe.epochs
        running = leases.running(self.engine, self.study_id)
        slow = [one.worker for one in running if one.epochs is None and one.since > longest]
        found = leases.give_up_trials(self.engine, self.study_id, slow, GIVEN_UP)
        if found:
            record = studies.get(self.engine, self.study_id)
            self._closed_to = record.trials
            self._given_up += [candidate.number for candidate in found]
            self.note = self._note(plan, record)
        return found

    def _note(self, plan: FinishPlan, record: Study) -> str:
        at = self._closed_at
        said = _shortened(plan) if at is None else _closed(plan, record, at)
        slow = ", ".join(map(str, self._given_up))
        return f"{said}; too slow for that and given up: trial {slow}" if slow else said

    def end(self) -> None:
        """At the end of a launch that leaves trials to others: without its limit the second stage is what was
        asked for again, unless it is under way. Raises as look() does."""
        stored = FinishPlan.from_record(studies.get(self.engine, self.study_id).finish)
        if (
            stored
            and (stored.wanted or stored.limit)
            and not begun(self.engine, self.study_id).is_under_way(stored)
        ):
            plan = stored.whole.with_wanted(stored.whole, stored.closed_from, exhausted=stored.exhausted)
            studies.shorten(self.engine, self.study_id, plan.document(), close=False)

    def _limit(self, left: float, workers: int, devices: int | None) -> Limit:
        return Limit(until=studies.clock(self.engine) + left, workers=workers, devices=devices)

    def _share(self, plan: FinishPlan, wanted: FinishPlan) -> float:
        """Of the time, that trials have at least, by the plan that fits if they end now."""
        if plan.finals.recipe.epochs >= LONG * wanted.finals.recipe.epochs:
            return SHARE
        tally = candidates.tally(self.engine, self.study_id)
        return SHORT_SHARE if sum(tally[state] for state in TRAINED) >= ENOUGH else SHARE

    def _pace(self) -> float | None:
        """Seconds of an epoch of the networks that go on: of all of these, or of the best of them where they
        are slower. Finals are of the best, which use more of what they may than others."""
        found = candidates.best(self.engine, self.study_id, FIRST)
        paces = map(finish_plan.seconds_an_epoch, (found, found[:CONTENDERS]))
        return max((pace for pace in paces if pace is not None), default=None)

    def _fitting(
        self, wanted: FinishPlan, seconds: float, pace: float, workers: int, there: Begun
    ) -> FinishPlan:
        try:
            return fitting(self.config, wanted, seconds, pace, workers, there)
        except (UsageError, RecipeError):  # a recipe that cannot be shortened
            return wanted


def drop_limit(engine: Engine, study_id: int) -> bool:
    """Has finals end at any time, by a launch without a limit, where they were to end with another one that
    has gone. Returns whether that is done: a worker may have given them another length meanwhile.

    Raises StudyError where the study has gone, and SQLAlchemy's errors for a database out of reach.
    """
    stored = studies.get(engine, study_id).finish
    plan = FinishPlan.from_record(stored)
    if plan is None or plan.limit is None:
        return True
    unlimited = plan.with_wanted(plan.whole, plan.closed_from, exhausted=plan.exhausted)
    return studies.replace_finish(engine, study_id, unlimited.document(), by=stored)


def between_looks(seconds: float) -> float:
    """Seconds from one look to the next, of a launch of so many."""
    return min(EVERY, EVERY_SHARE * seconds)


def _closed(plan: FinishPlan, record: Study, elapsed: float) -> str:
    if not (said := finish_plan.describe_closing(plan, record.trials)):
        return _shortened(plan)  # the last trials ran already
    return f"{said}, {duration(elapsed)}, to leave time for {finish_plan.describe(plan)}"


def _shortened(plan: FinishPlan) -> str:
    return f"the second stage is shortened to the time: {finish_plan.describe(plan)}" if plan.wanted else ""


def _is_another(plan: FinishPlan, stored: FinishPlan, workers: int, devices: int | None) -> bool:
    was, now = stored.finals.recipe.epochs, plan.finals.recipe.epochs
    one, other = ((of.rungs, of.finals.networks, of.finals.contenders) for of in (plan, stored))
    limit = stored.limit
    has_limit = limit is not None and (limit.workers, limit.devices) == (workers, devices)
    return one != other or abs(now - was) > CLOSER * was or not has_limit


def takes(
    config: StudyConfig, plan: FinishPlan, pace: float, workers: int, there: Begun | None = None
) -> float:
    """Seconds of so many workers for what is left of the second stage; `pace` is seconds of an epoch of a
    trial. All of it without `there`."""
    there = there or Begun()
    ended = there.ended(plan)
    last = plan.finals.recipe
    finals = _final(config, plan, workers, ended.get((Stage.FINALS, last.epochs), 0)) * _slower(
        config, last.batch_size
    )
    epochs = _halving(config, plan, workers, there) + finals * last.epochs
    return SLACK * pace * (epochs + sum(there.strays(plan)) / max(1, workers))


def _halving(config: StudyConfig, plan: FinishPlan, workers: int, there: Begun) -> float:
    """Epochs of the worker that has most to do in the rungs, in epochs of a trial; a rung that drops nobody
    is left out, as by halving.reached(), and none is over before its slowest training is."""
    ended, found, networks = there.ended(plan), 0.0, there.networks
    sizes = [*(rung.networks for rung in plan.rungs), plan.finals.entrants]
    for rung, size_of_next in zip(plan.rungs, sizes[1:], strict=True):
        networks = rung.networks if networks is None else min(networks, rung.networks)
        if networks <= size_of_next:
            continue
        left = networks - ended.get((Stage.HALVING, rung.epochs), 0)
        longest = max(_together(left, workers), there.slowest if left > 0 else 0.0)
        batch = finish_plan.recipe_of_rung(config, rung.epochs).batch_size
        found += longest * rung.epochs * _slower(config, batch)
    return found


def _slower(config: StudyConfig, batch: int) -> float:
    """Than an epoch of a trial."""
    return finish_plan.slower(batch, than=config.recipe.batch_size)


def _together(trainings: int, workers: int) -> int:
    """How many trainings of equal length one worker does, one after another, where all share them."""
    return math.ceil(max(0, trainings) / max(1, workers))


def _final(config: StudyConfig, plan: FinishPlan, workers: int, ended: int = 0) -> float:
    """What an epoch more of the finals takes, in epochs of a trial of batches of their size: finals are
    trained on all images."""
    together = 0
    for trainings in plan.finals.turns:
        together += _together(trainings - ended, workers)
        ended = max(0, ended - trainings)
    return together * config.data.all_train_images / config.data.train_images


def fitting(
    config: StudyConfig,
    wanted: FinishPlan,
    seconds: float,
    pace: float,
    workers: int,
    there: Begun | None = None,
) -> FinishPlan:
    """The wanted plan where it fits; else one whose finals are half as long as wanted; else one with a single
    finalist, if as many are wanted as by default: so short finals gain more by epochs than by all seeds of
    two. Which one, the first seed of a few and of the best baseline chooses, where that takes no longer.

    Of each the one of most networks in its first rung whose finals are longer than its rungs, and half as
    long as wanted or else as costly as the rungs. Where none is, finals of one epoch more than the trials
    have.

    Raises UsageError and RecipeError as make_plan() does.
    """
    there = there or Begun()
    if takes(config, wanted, pace, workers, there) <= seconds:
        return wanted
    epochs = seconds / (SLACK * pace)  # of a trial, that one worker has time for
    found = _shorter(config, wanted, epochs, workers, there)
    if wanted.finals.networks == FINALISTS and (
        found is None or found.finals.recipe.epochs < LONG * wanted.finals.recipe.epochs
    ):
        contenders = _contenders(wanted.finals.seeds, workers)
        wanted = finish_plan.make_plan(config, wanted, finalists=1, contenders=contenders)
        found = _shorter(config, wanted, epochs, workers, there)
    return found or finish_plan.make_plan(config, wanted, epochs=config.recipe.epochs + 1, first=0)


def _contenders(seeds: int, workers: int) -> int | None:
    """The most that finals of one network may choose it from with the first seed, and take no longer than
    with all seeds of the best network by its trial, and of the baseline. None where there is no choice."""
    usual = _together(2 * seeds, workers)
    for contenders in range(CONTENDERS, 2, -1):
        if _together(contenders, workers) + _together(seeds - 1, workers) <= usual:
            return contenders
    return None


def _shorter(
    config: StudyConfig, wanted: FinishPlan, epochs: float, workers: int, there: Begun
) -> FinishPlan | None:
    """The plan of as many finalists that fits so many epochs of a trial of each worker, if there is one."""
    brief, longest, finalists = config.recipe.epochs, wanted.finals.recipe.epochs, wanted.finals.entrants

    def takes_of_finals(last: int, batch: int) -> float:
        return last * _final(config, wanted, workers) * _slower(config, batch)

    for first in FIRSTS:
        rungs = finish_plan.rungs(brief, longest, finalists, first)
        plan = wanted.model_copy(update={"rungs": rungs})
        halves = _halving(config, plan, workers, there)
        last = finish_plan.longest(config, wanted, takes_of_finals, epochs - halves)
        if last is None:
            continue
        is_worth_it = last >= LONG * longest or halves <= HALVING * epochs
        if last > (rungs[-1].epochs if rungs else brief) and is_worth_it:
            return finish_plan.make_plan(config, wanted, epochs=last, first=first)
    return None
