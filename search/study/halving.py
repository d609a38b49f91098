"""The second stage of a search as it stands: which rungs were reached, who is in them, what is missing, who
won.

Computes all of it from the plan and the rows of the ledger; stores nothing and decides nothing by itself, so
that every worker, whenever it looks, comes to the same. A rung is chosen once all before it has ended. Trials
that are added later, or another plan, just make trainings missing; what was trained stays and counts.

Called by search/worker/rung_training.py, which asks for what is missing, and by all that show a study. What
successive halving is stands in search/study/finish_plan.py.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean, median

from search.study import worker_rows
from search.study.finish_plan import Finals, FinishPlan
from search.study.text import counted
from storage.row_types import Candidate, RungEntry, RungTraining, Stage, State

SLOW = 2.0  # times as long an epoch as is usual among so many leaders: too slow for short finals
LEADERS = 16
ENOUGH = 3  # trials of a host by which its pace is known, else by that of all such devices
ONE_SEED = (0,)  # of a rung of the halving: the training's seed follows from network and epochs


def score(trained: Candidate | RungTraining) -> float:
    """What chooses who goes on, the higher the better: what the search maximises, after the last epoch,
    0..1."""
    return trained.value or 0.0


def has_score(trained: Candidate | RungTraining) -> bool:
    """Whether it was trained to the end, and may be chosen."""
    return trained.state == State.COMPLETED and trained.accuracy is not None


@dataclass(frozen=True)
class ReachedRung:
    """A rung whose entrants are known. `entrants`: as they were chosen, the best first.

    `from_before`: of finals, networks that were not chosen now and whose seeds of this length have all ended,
    by another plan or before trials were added; `theirs` are these trainings. They are ranked beside the
    entrants, and are no part of what is missing, under way or in total.
    """

    stage: Stage
    epochs: int
    seeds: tuple[int, ...]
    entrants: tuple[Candidate, ...]
    entered: tuple[RungTraining, ...]  # its trainings that have been asked for already
    is_first_turn: bool = False  # of finals, with the first seed, that chooses whose other seeds are trained
    from_before: tuple[Candidate, ...] = ()
    theirs: tuple[RungTraining, ...] = ()

    @property
    def missing(self) -> list[RungEntry]:
        """The trainings that nobody has asked for yet, in the order in which workers take them: the networks
        first whose trials took longest, so that no worker begins the longest training when others end."""
        known = {one.entry for one in self.entered}
        return [entry for entry in self._entries if entry not in known]

    @property
    def _entries(self) -> list[RungEntry]:
        entries = [
            (candidate.seconds or math.inf, RungEntry(candidate.id, self.stage, self.epochs, seed))
            for seed in self.seeds
            for candidate in self.entrants
        ]
        return [entry for _, entry in sorted(entries, key=lambda one: -one[0])]

    @property
    def total(self) -> int:
        """How many trainings it has."""
        return len(self.seeds) * len(self.entrants)

    @property
    def is_over(self) -> bool:
        """Whether all were asked for and none waits or runs."""
        return not self.missing and all(one.has_ended for one in self.entered)

    def completed(self, candidate: Candidate) -> list[RungTraining]:
        """The trainings of a network that came to their end, in the order of the seeds."""
        known = (*self.entered, *self.theirs)
        mine = [one for one in known if one.candidate_id == candidate.id and has_score(one)]
        return sorted(mine, key=lambda one: one.seed)

    @property
    def _measured(self) -> tuple[Candidate, ...]:
        return (*self.entrants, *self.from_before)

    @cached_property
    def scores(self) -> dict[int, float]:
        """The mean over the seeds that came to their end, by trial; without those of which none did."""
        found = {one.number: self.completed(one) for one in self._measured}
        return {number: fmean(map(score, trained)) for number, trained in found.items() if trained}

    @property
    def accuracies(self) -> dict[int, float]:
        """The same of validation accuracy, for people, whatever chooses."""
        found = {one.number: self.completed(one) for one in self._measured}
        return {n: fmean(one.accuracy or 0.0 for one in trained) for n, trained in found.items() if trained}

    @property
    def ranked(self) -> list[Candidate]:
        """Those with a score, the best first; of equals the smaller."""
        through = [one for one in self._measured if one.number in self.scores]
        return sorted(through, key=lambda one: (-self.scores[one.number], one.parameters, one.number))

    @property
    def name(self) -> str:
        """What people call it."""
        said = f"{self.stage.value} of {counted(self.epochs, 'epoch')}"
        return f"{said}, first seed" if self.is_first_turn else said


def reached(
    plan: FinishPlan, rows: Sequence[Candidate], trainings: Sequence[RungTraining]
) -> list[ReachedRung]:
    """The rungs so far, in order; all but the last are over. Empty where no network was trained to the end.

    A rung that would drop nobody is left out. One that nobody came through chooses nobody: the order of
    before it holds. The best baseline is in the finals in any case. Finals of two turns are two rungs of one
    length: in the first the best baseline and the best variant of baselines take the last places, if none is
    among the best, and nobody who is slow; the second has the trainings of its networks from the first. With
    one seed there is nothing left for a second. Whoever has all seeds of this length from before is ranked in
    the last rung too, chosen or not: trials that were added may not make a better network one of no rung.
    """
    order = sorted(filter(has_score, rows), key=lambda row: (-score(row), row.parameters, row.number))
    baseline = next((row for row in order if row.baseline), None)
    variant = _variant(plan.finals, _quick(order))
    found = list[ReachedRung]()
    sizes = [*(rung.networks for rung in plan.rungs), plan.finals.entrants]
    for rung, size_of_next in zip(plan.rungs, sizes[1:], strict=True):
        if len(order[: rung.networks]) <= size_of_next:
            continue
        here = _rung(Stage.HALVING, rung.epochs, ONE_SEED, order[: rung.networks], trainings)
        found.append(here)
        if not here.is_over:
            return found
        order = here.ranked or order
        baseline = next((row for row in here.ranked if row.baseline), baseline)
        left_out = variant if variant not in here.entrants else None
        variant = _variant(plan.finals, _quick(here.ranked)) or left_out
    if plan.finals.contenders:
        finalists = _contenders(plan.finals, _quick(order), [row for row in (variant, baseline) if row])
    else:
        finalists = order[: plan.finals.networks]
        if baseline and not any(row.baseline for row in finalists):
            finalists.append(baseline)
    if not finalists:
        return found
    epochs, seeds = plan.finals.recipe.epochs, tuple(range(plan.finals.seeds))
    if plan.finals.contenders and len(seeds) > 1:
        first = replace(_rung(Stage.FINALS, epochs, seeds[:1], finalists, trainings), is_first_turn=True)
        found.append(first)
        if not first.is_over:
            return found
        finalists = (first.ranked or finalists)[: plan.finals.networks]
    last = _rung(Stage.FINALS, epochs, seeds, finalists, trainings)
    found.append(_with_those_from_before(last, filter(has_score, rows), trainings))
    return found


def _variant(plan: Finals, order: Sequence[Candidate]) -> Candidate | None:
    """The first variant of baselines."""
    return next((row for row in order if row.fingerprint in plan.variants), None)


def _contenders(plan: Finals, order: Sequence[Candidate], kept: Sequence[Candidate]) -> list[Candidate]:
    """The best, and in any case those that are `kept`, the best variant and the best baseline: after a few
    epochs those are ahead that learn fast, and what is known to be good at the end of a training may not be
    among them."""
    others = [row for row in order if row not in kept][: plan.entrants - len(kept)]
    return [row for row in order if row in others or row in kept] + [row for row in kept if row not in order]


def _quick(order: Sequence[Candidate]) -> list[Candidate]:
    """Those whose trials took less than SLOW times as long as is usual among the best that were trained on
    the same kind of device: others of them may be as fast as that one is slow. Short finals have no time for
    slow networks: their length is reckoned by the usual, and all of them wait for the last."""
    paces = {row.id: row.seconds / row.epochs for row in order if row.seconds and row.epochs}
    on = dict[tuple[str | None, ...], list[float]]()
    for row in order:
        for kind in _kinds_of_device(row):
            if row.id in paces:
                on.setdefault(kind, []).append(paces[row.id])

    def usual(row: Candidate) -> float:
        of_host, of_all = (on.get(kind, [math.inf]) for kind in _kinds_of_device(row))
        return median((of_host if len(of_host) >= ENOUGH else of_all)[:LEADERS])

    return [row for row in order if row.baseline or paces.get(row.id, 0.0) < SLOW * usual(row)]


def _kinds_of_device(row: Candidate) -> tuple[tuple[str | None, ...], ...]:
    """What a trial was trained on, as its worker says it: first that of its own host, as cores are named by
    their architecture alone, of a laptop as of a workstation."""
    return (row.device, worker_rows.host_of(row.worker)), (row.device,)


def with_all_seeds(
    trainings: Iterable[RungTraining], epochs: int, seeds: Sequence[int]
) -> dict[int, list[RungTraining]]:
    """Of the networks whose seeds have all ended in finals of this length, these trainings by the candidate's
    id."""
    found = dict[int, list[RungTraining]]()
    for one in trainings:
        if one.stage == Stage.FINALS and one.epochs == epochs and one.seed in seeds and one.has_ended:
            found.setdefault(one.candidate_id, []).append(one)
    return {key: mine for key, mine in found.items() if len(mine) == len(seeds)}


def earlier_finals(
    plan: FinishPlan, rows: Sequence[Candidate], trainings: Sequence[RungTraining]
) -> ReachedRung | None:
    """The longest finals of another length than the plan's, or of this one before a trial was added: they
    rank every network that has all seeds of their length. None where there were none, and where a baseline
    alone came through, which is in finals in any case."""
    seeds = tuple(range(plan.finals.seeds))
    lengths = {one.epochs for one in trainings if one.stage == Stage.FINALS}
    for epochs in sorted(lengths, reverse=True):
        known = with_all_seeds(trainings, epochs, seeds)
        is_planned = epochs == plan.finals.recipe.epochs
        if is_planned and not any(_is_older(mine, rows) for mine in known.values()):
            continue
        nobody = ReachedRung(Stage.FINALS, epochs, seeds, (), ())
        found = _with_those_from_before(nobody, filter(has_score, rows), trainings)
        if len(found.ranked) > 1 or any(not one.baseline for one in found.ranked):
            return found
    return None


def _is_older(trainings: Sequence[RungTraining], rows: Sequence[Candidate]) -> bool:
    """Whether these had ended before the newest trial was proposed."""
    newest = max(row.proposed_at for row in rows)
    return all(one.finished_at is not None and one.finished_at < newest for one in trainings)


def _with_those_from_before(
    finals: ReachedRung, rows: Iterable[Candidate], trainings: Sequence[RungTraining]
) -> ReachedRung:
    """The finals, and beside their entrants every other network that has all seeds."""
    known = with_all_seeds(trainings, finals.epochs, finals.seeds)
    chosen = {entrant.id for entrant in finals.entrants}
    others = tuple(row for row in rows if row.id in known and row.id not in chosen)
    theirs = tuple(one for row in others for one in known[row.id])
    return replace(finals, from_before=others, theirs=theirs)


def _rung(
    stage: Stage,
    epochs: int,
    seeds: tuple[int, ...],
    entrants: Sequence[Candidate],
    trainings: Sequence[RungTraining],
) -> ReachedRung:
    rung = ReachedRung(stage, epochs, seeds, tuple(entrants), ())
    wanted = set(rung.missing)
    entered = tuple(one for one in trainings if one.entry in wanted)
    return ReachedRung(stage, epochs, seeds, tuple(entrants), entered)


def finals(rungs: Sequence[ReachedRung]) -> ReachedRung | None:
    """The finals, once they are over."""
    last = rungs[-1] if rungs else None
    is_last = last is not None and last.stage == Stage.FINALS and not last.is_first_turn
    return last if last and is_last and last.is_over else None


def winner(rungs: Sequence[ReachedRung]) -> Candidate | None:
    """The network with the best mean over its seeds, once the finals are over; None where all have failed."""
    over = finals(rungs)
    return over.ranked[0] if over and over.ranked else None


def is_over(plan: FinishPlan, rows: Sequence[Candidate], trainings: Sequence[RungTraining]) -> bool:
    """Whether nothing is left to train in the second stage, be it that there was nothing."""
    rungs = reached(plan, rows, trainings)
    return not rungs or finals(rungs) is not None
