"""Simulates one search in virtual time: workers ask Optuna, trainings take simulated seconds.

Called by suite.py with a world, a strategy and a source of candidates; writes nothing. A result is known
only when its training is over, so a sampler sees what it would see with as many real workers: some trials
running, without values. Rules are those of search/worker/trial.py: over-budget and repeated proposals are
answered at once, cost nothing and do not count; `trials` counts what was trained or pruned.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import TrialState, create_trial

from benchmarks.simulated.proposals import Source
from benchmarks.simulated.strategies import Strategy
from benchmarks.simulated.weighing import weighed
from benchmarks.simulated.worlds import Candidate, Learning, World
from space import sampling

# As in search/worker/trial.py: repeats in a row until a search ends, and proposals for one training.
GIVE_UP_AFTER, GIVE_UP_OVER_BUDGET = 400, 4_000
MOST_TRIALS = 4  # times the trials asked for: then a search ends, whatever it has spent


@dataclass
class Paused:
    """A training that waits at a rung, with its checkpoint; `reports` are what Optuna heard so far."""

    trial: optuna.Trial
    candidate: Candidate
    learning: Learning
    reports: list[float]


@dataclass(frozen=True)
class Finish:
    """A candidate trained to its last epoch: when, after how many trials and seconds of training in all;
    `observed` is what the winner is chosen by."""

    trials: int
    cost: float
    observed: float
    truth: float
    parameters: int


@dataclass
class Search:
    """One simulated search. Ends when `trials` are trained and `cost` seconds of training are spent."""

    world: World
    strategy: Strategy
    source: Source
    seed: int
    trials: int
    cost: float
    workers: int = 8
    study: optuna.Study = field(init=False)
    trained: int = 0
    held: int = 0
    spent: float = 0.0
    epochs: int = 0
    tally: dict[str, int] = field(default_factory=lambda: {"asks": 0, "repeated": 0, "over": 0, "pruned": 0})
    finished: list[Finish] = field(default_factory=list)
    known: dict[str, optuna.Trial] = field(default_factory=dict)
    paused: dict[int, list[Paused]] = field(default_factory=dict)
    rung_values: dict[int, list[float]] = field(default_factory=dict)
    promoted: int = 0
    spared: int = 0
    time: float = 0.0
    time_at_trials: float | None = None
    cost_at_trials: float | None = None

    def run(self) -> "Search":
        weights = sampling.prior(self.world.space) if self.strategy.weighted else {}
        self.study = optuna.create_study(
            direction="maximize",
            sampler=weighed(self.strategy.sampler(self.seed), weights),
            pruner=self.strategy.pruner(self.world.epochs),
            study_name=f"search-{self.seed}",  # Hyperband picks a bracket by the name
        )
        self.usual = self.study.sampler
        self.wide = weighed(optuna.samplers.RandomSampler(seed=self.seed + 1_000_003), weights)
        self.spared = self.source.begin(self.study)
        queue: list[tuple[float, int, Iterator[float]]] = []
        for number in range(self.workers):
            self._advance(queue, 0.0, number, self._worker())
        while queue:
            self.time, number, worker = heapq.heappop(queue)
            self._advance(queue, self.time, number, worker)
        return self

    @staticmethod
    def _advance(queue: list[Any], now: float, number: int, worker: Iterator[float]) -> None:
        duration = next(worker, None)
        if duration is not None:
            heapq.heappush(queue, (now + duration, number, worker))

    def _worker(self) -> Iterator[float]:
        """Yields the seconds until something happens; between two yields no time passes."""
        while True:
            resumed = self._promotable()
            if resumed:
                yield from self._train(resumed)
                continue
            if not self._claim():
                return
            job = self._begin()
            if job is None:
                self.held -= 1
                return
            yield from self._train(job)

    def _claim(self) -> bool:
        wanted = self.trained + self.held < self.trials or self.spent < self.cost
        if not wanted or self.trained + self.held >= MOST_TRIALS * self.trials:
            return False
        self.held += 1
        return True

    def _begin(self) -> Paused | None:
        """Asks until a network is worth training. None: nothing new, or nothing that fits, is proposed any
        more."""
        repeats = 0
        for _ in range(GIVE_UP_OVER_BUDGET):
            self.study.sampler = self.wide if repeats >= self.strategy.widen_after else self.usual
            trial, candidate = self._proposal()
            if candidate is None or repeats >= GIVE_UP_AFTER:
                return None
            if not candidate.fits:
                self._refuse(trial, candidate)
                repeats = 0
            elif candidate.fingerprint in self.known:
                self._answer(trial, self.known[candidate.fingerprint])
                repeats += 1
            else:
                self.known[candidate.fingerprint] = trial
                return Paused(trial, candidate, self.world.learn(candidate, self.seed), [])
        return None

    def _proposal(self) -> tuple[optuna.Trial, Candidate | None]:
        """One answer of the sampler, or the costliest new one of several."""
        screen = self.strategy.screen
        drawn = [self._ask() for _ in range(screen.candidates if screen else 1)]
        if screen is None or any(candidate is None for _, candidate in drawn):
            return drawn[0]
        fresh = [pair for pair in drawn if pair[1] and pair[1].fingerprint not in self.known]
        best = max(fresh or drawn, key=lambda pair: getattr(pair[1], screen.by))
        for trial, _ in drawn:
            if trial is not best[0]:
                self.study.tell(trial, state=TrialState.FAIL)
        return best

    def _ask(self) -> tuple[optuna.Trial, Candidate | None]:
        self.tally["asks"] += 1
        return self.source.ask(self.study)

    def _refuse(self, trial: optuna.Trial, candidate: Candidate) -> None:
        self.tally["over"] += 1
        for name, violation in candidate.violations.items():
            trial.set_constraint(name, violation)
        self.study.tell(trial, state=TrialState.PRUNED)

    def _answer(self, trial: optuna.Trial, original: optuna.Trial) -> None:
        """A repeat, answered as FAIL as search/recording/reconcile.py does, as PRUNED, or with its original's
        value."""
        self.tally["repeated"] += 1
        if self.strategy.repeats == "fail":
            self.study.tell(trial, state=TrialState.FAIL)
            return
        frozen = self.study._storage.get_trial(original._trial_id)
        if self.strategy.repeats == "value" and frozen.state == TrialState.COMPLETE:
            self.study.tell(trial, frozen.value)
            return
        known = frozen.state == TrialState.PRUNED and frozen.last_step is not None
        if self.strategy.repeats == "value" and known and frozen.last_step is not None:
            trial.report(frozen.intermediate_values[frozen.last_step], frozen.last_step)
        self.study.tell(trial, state=TrialState.PRUNED)

    def _train(self, job: Paused) -> Iterator[float]:
        """Epoch by epoch, until the last one, the pruner's word, or a rung."""
        again, last = bool(job.reports), self.world.epochs
        rungs = self.strategy.rungs.epochs(last) if self.strategy.rungs else ()
        heard = job.learning.read(self.strategy.hears)
        for epoch in range(len(job.reports) + 1, last + 1):
            yield job.learning.seconds
            self.spent += job.learning.seconds
            self.epochs += 1
            job.reports.append(heard[epoch - 1])
            if not again:
                job.trial.report(job.reports[-1], epoch)
            if epoch == last:
                break
            if epoch in rungs:
                self._pause(job, epoch, again)
                return
            if not again and job.trial.number >= self.spared and job.trial.should_prune():
                self.study.tell(job.trial, state=TrialState.PRUNED)
                self._count(pruned=True)
                return
        self._finish(job, again)

    def _finish(self, job: Paused, again: bool) -> None:
        value = job.reports[-1]
        if again:
            self.study.add_trial(_continued(self.study, job, value))
        else:
            self.study.tell(job.trial, value)
            self._count(pruned=False)
        seen = job.learning.read(self.strategy.chosen_by)[-1]
        self.finished.append(
            Finish(self.trained, self.spent, seen, job.learning.truth, job.candidate.parameters)
        )

    def _pause(self, job: Paused, epoch: int, again: bool) -> None:
        """A first pause counts as one trial and is answered PRUNED: Optuna knows no pause."""
        self.rung_values.setdefault(epoch, []).append(job.reports[-1])
        self.paused.setdefault(epoch, []).append(job)
        if not again:
            self.study.tell(job.trial, state=TrialState.PRUNED)
            self._count(pruned=True)

    def _promotable(self) -> Paused | None:
        """The best paused training that is among the best 1/factor of its rung, highest rung first."""
        if self.strategy.rungs is None or self._over:
            return None
        for epoch in sorted(self.paused, reverse=True):
            waiting, values = self.paused[epoch], sorted(self.rung_values[epoch], reverse=True)
            best = max(waiting, key=lambda job: job.reports[-1], default=None)
            count = len(values) // self.strategy.rungs.factor
            if best and count and best.reports[-1] >= values[count - 1]:
                waiting.remove(best)
                self.promoted += 1
                return best
        return None

    @property
    def _over(self) -> bool:
        return self.trained >= self.trials and self.spent >= self.cost

    def _count(self, *, pruned: bool) -> None:
        self.held -= 1
        self.trained += 1
        self.tally["pruned"] += pruned
        if self.trained == self.trials:
            self.time_at_trials, self.cost_at_trials = self.time, self.spent


def _continued(study: optuna.Study, job: Paused, value: float) -> optuna.trial.FrozenTrial:
    """What a promoted training adds to the study: the same parameters, now with their value."""
    frozen = study._storage.get_trial(job.trial._trial_id)
    return create_trial(
        params=frozen.params,
        distributions=frozen.distributions,
        value=value,
        intermediate_values=dict(enumerate(job.reports, start=1)),
    )
