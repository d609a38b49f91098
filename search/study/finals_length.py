"""How long the finals of a second stage that is to end in a limit of time may be, once they are due.

The plan was made while nobody knew who would be in the finals: with a network more than there may be, by the
pace of brief trials, and with room for slower ones (search/launcher/closing.py). Once the finals are due,
their networks are known, and how fast each of them trains; what was kept back goes into more epochs, no more
than were asked for. They become shorter, those of a plan that fitted whole too, where these networks are so
slow that finals would surely not end in time, and with them the search without a confirmed network.

Computes it from the plan, the rung and the rows of the ledger; writes nothing. Called by
search/worker/rung_training.py before the finals are entered.
"""

import heapq
import math
from collections.abc import Iterable

from search.study import finish_plan, halving
from search.study.config import StudyConfig
from search.study.finish_plan import FinishPlan
from search.study.halving import ReachedRung
from storage.row_types import Candidate, RungTraining, Stage

SLACK = 1.1  # longer than the networks' own pace says: it is known by now, that of all trials was not
MARGIN, MARGIN_SHARE = 30.0, 0.05  # seconds that they end before the limit, of what is left at most


def fitted(
    config: StudyConfig, plan: FinishPlan, finals: ReachedRung, trainings: Iterable[RungTraining], now: float
) -> FinishPlan | None:
    """The plan with the longest finals that end before its limit, None where they stay as they are: no longer
    ones fit with room for slower trainings, and these fit without. They are longer than the trials, and than
    the rungs that were trained: few networks have not all of the plan's. `now` is in seconds since 1970, by
    the clock of the database, as the limit; one that has passed limits nothing.

    Raises UsageError and RecipeError as finish_plan.make_plan() does.
    """
    if plan.limit is None or finals.entered:
        return None
    left = plan.limit.until - now
    if left <= 0:
        return None
    left -= min(MARGIN, MARGIN_SHARE * left)
    trainings, later = list(trainings), sum(plan.finals.turns[1:])
    halved = {one.epochs for one in trainings if one.stage == Stage.HALVING}
    an_epoch = _seconds_an_epoch(config, plan.limit.workers, finals, trainings, later)
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
    config: StudyConfig, workers: int, finals: ReachedRung, trainings: Iterable[RungTraining], later: int
) -> float | None:
    """What an epoch more of all finals takes in batches of the trials' size: of the worker that has most to
    do, where each takes the next one in their order, and then of so many trainings of a second turn, of
    whatever network. None where no network says how fast it is."""
    known = list(trainings)
    paces = {one.id: _pace(config, one, known) for one in finals.entrants}
    slowest = max((pace for pace in paces.values() if pace is not None), default=None)
    if slowest is None:
        return None
    busy = [0.0] * workers
    for entry in finals.missing:
        pace = paces[entry.candidate_id]
        heapq.heapreplace(busy, busy[0] + (slowest if pace is None else pace))
    longest = max(busy) + slowest * math.ceil(later / workers)
    return longest * config.data.all_train_images / config.data.train_images


def _pace(config: StudyConfig, candidate: Candidate, trainings: Iterable[RungTraining]) -> float | None:
    """Seconds of an epoch in the finals if they had no more images, and batches of the trials' size: by its
    longest training in the rungs, else by its trial. Finals of another length had all images already."""
    mine = [
        (one.epochs, one.seconds)
        for one in trainings
        if one.candidate_id == candidate.id
        and one.stage == Stage.HALVING
        and halving.has_score(one)
        and one.seconds
    ]
    if mine:
        epochs, seconds = max(mine)
        batch = finish_plan.recipe_of_rung(config, epochs).batch_size
        return seconds / epochs * finish_plan.slower(config.recipe.batch_size, than=batch)
    return finish_plan.seconds_an_epoch([candidate])
