"""How long the finals of a second stage that is to end in a limit of time may be, once they are due.

The plan was made while nobody knew who would be in the finals: with a network more than there may be, by the
pace of brief trials, and with room for slower ones (search/launcher/closing.py). Once the finals are due,
their networks are known, and how fast each of them trains; what was kept back goes into more epochs, no more
than were asked for. They become shorter, those of a plan that fitted whole too, where these networks are so
slow that finals would surely not end in time, and with them the search without a confirmed network. Where
workers share a GPU, a pace that was measured with fewer trainings a GPU than the finals will have is taken to
be slower by as much, as if a GPU did no more for many than for one. The time for which a process was stopped,
as by docker pause, is no part of a pace: epochs that took many times as long as others of their trial, and
trainings of a rung that did so beside their network's trial.

Computes it from the plan, the rung and the rows of the ledger; writes nothing. Called by
search/worker/rung_training.py before the finals are entered.
"""

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median_low

from search.study import finish_plan, halving
from search.study.config import StudyConfig
from search.study.finish_plan import FinishPlan, Limit
from search.study.halving import ReachedRung
from storage.row_types import Candidate, Epoch, RungTraining, Stage

SLACK = 1.1  # longer than the networks' own pace says: it is known by now, that of all trials was not
MARGIN, MARGIN_SHARE = 30.0, 0.05  # seconds that they end before the limit, of what is left at most


def fitted(
    config: StudyConfig,
    plan: FinishPlan,
    finals: ReachedRung,
    trainings: Iterable[RungTraining],
    now: float,
    epochs_of: Mapping[int, Sequence[Epoch]] | None = None,
) -> FinishPlan | None:
    """The plan with the longest finals that end before its limit, None where they stay as they are: no longer
    ones fit with room for slower trainings, and these fit without. They are longer than the trials, and than
    the rungs that were trained: few networks have not all of the plan's. Where a network has all seeds of
    finals of this length they keep it, as it would not be ranked beside others. `now` is in seconds since
    1970, by the clock of the database, as the limit; one that has passed limits nothing. `epochs_of`: those
    of the trials of the finals' networks, by the candidate's id, where they are known.

    Raises UsageError and RecipeError as finish_plan.make_plan() does.
    """
    trainings, length = list(trainings), plan.finals.recipe.epochs
    is_kept = finals.entered or halving.with_all_seeds(trainings, length, range(plan.finals.seeds))
    if plan.limit is None or is_kept:
        return None
    left = plan.limit.until - now
    if left <= 0:
        return None
    left -= min(MARGIN, MARGIN_SHARE * left)
    later = sum(plan.finals.turns[1:])
    halved = {one.epochs for one in trainings if one.stage == Stage.HALVING}
    an_epoch = _seconds_an_epoch(config, plan.limit, finals, trainings, epochs_of or {}, later)
    if an_epoch is None:
        return None

    def longest(an_epoch: float) -> int:
        def takes(epochs: int, batch: int) -> float:
            return epochs * an_epoch * finish_plan.slower(batch, than=config.recipe.batch_size)

        reached = [rung.epochs for rung in plan.rungs if rung.epochs in halved]
        shortest = max([config.recipe.epochs, *reached]) + 1
        return max(shortest, finish_plan.longest(config, plan.whole, takes, left) or 0)

    was, epochs = plan.finals.recipe.epochs, longest(SLACK * an_epoch)
    if epochs < was:
        epochs = min(was, longest(an_epoch))
    if epochs == was:
        return None
    other = finish_plan.make_plan(
        config, plan.whole, plan.finals.networks, epochs, contenders=plan.finals.contenders
    )
    return plan.model_copy(update={"finals": other.finals}).with_wanted(
        plan.whole, plan.closed_from, plan.limit, exhausted=plan.exhausted
    )


def _seconds_an_epoch(
    config: StudyConfig,
    limit: Limit,
    finals: ReachedRung,
    trainings: Sequence[RungTraining],
    epochs_of: Mapping[int, Sequence[Epoch]],
    later: int,
) -> float | None:
    """What an epoch more of all finals takes in batches of the trials' size: of the worker that has most to
    do, where each takes the next one in their order, and then of so many trainings of a second turn, of
    whatever network. None where no network says how fast it is."""
    workers, devices = limit.workers, limit.devices or limit.workers
    a_device = math.ceil(min(len(finals.missing), workers) / devices)
    shared = _Sharing(workers / devices, a_device, devices)
    paces = {
        one.id: _pace(config, one, epochs_of.get(one.id, ()), trainings, shared) for one in finals.entrants
    }
    slowest = max((pace for pace in paces.values() if pace is not None), default=None)
    if slowest is None:
        return None
    busy = [0.0] * workers
    for entry in finals.missing:
        pace = paces[entry.candidate_id]
        heapq.heapreplace(busy, busy[0] + (slowest if pace is None else pace))
    longest = max(busy) + slowest * math.ceil(later / workers)
    return longest * config.data.all_train_images / config.data.train_images


@dataclass(frozen=True)
class _Sharing:
    """How many trainings a device has: in the trials, and in the finals."""

    in_trials: float
    in_finals: int
    devices: int

    def slower(self, before: float) -> float:
        """Than a training with so many on its device, itself among them, one of the finals may be."""
        return max(1.0, self.in_finals / max(1.0, before))

    def beside(self, training: RungTraining, others: Iterable[RungTraining]) -> float:
        """How many trainings a device had, on the average, while this one ran."""
        start, end = _span(training)
        spans = [_span(one) for one in others if one is not training and one.seconds and one.finished_at]
        together = sum(max(0.0, min(end, last) - max(start, first)) for first, last in spans)
        return (1 + together / max(end - start, 1e-9)) / self.devices


def _span(training: RungTraining) -> tuple[float, float]:
    end = training.finished_at.timestamp() if training.finished_at else 0.0
    return end - (training.seconds or 0.0), end


def _pace(
    config: StudyConfig,
    candidate: Candidate,
    epochs: Sequence[Epoch],
    trainings: Sequence[RungTraining],
    shared: _Sharing,
) -> float | None:
    """Seconds of an epoch in the finals if they had no more images, and batches of the trials' size: by its
    longest training in the rungs that was not stopped, else by its trial. Finals of another length had all
    images already."""
    of_trial = _pace_of_trial(candidate, epochs)
    if of_trial is not None:
        of_trial *= shared.slower(shared.in_trials)
    mine = [
        one
        for one in trainings
        if one.candidate_id == candidate.id
        and one.stage == Stage.HALVING
        and halving.has_score(one)
        and one.seconds
    ]
    for one in sorted(mine, key=lambda one: one.epochs, reverse=True):
        pace = _pace_of_rung(config, one) * shared.slower(shared.beside(one, trainings))
        if of_trial is None or one.device != candidate.device or pace <= finish_plan.SLOWEST * of_trial:
            return pace
    return of_trial


def _pace_of_rung(config: StudyConfig, training: RungTraining) -> float:
    batch = finish_plan.recipe_of_rung(config, training.epochs).batch_size
    slower = finish_plan.slower(config.recipe.batch_size, than=batch)
    return (training.seconds or 0.0) / training.epochs * slower


def _pace_of_trial(candidate: Candidate, epochs: Sequence[Epoch]) -> float | None:
    """By its epochs, where these are known: without those in which its process was stopped."""
    if not epochs:
        return finish_plan.seconds_an_epoch([candidate])
    took = [epoch.seconds for epoch in epochs]
    return fmean(one for one in took if one <= finish_plan.SLOWEST * median_low(took))
