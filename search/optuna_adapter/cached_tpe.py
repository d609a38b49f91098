"""Optuna's tree-structured Parzen estimator, which looks at the finished trials once for a trial.

Optuna divides all finished trials into good and bad ones anew for each parameter that is not shared by all
of them, and reads the parameter out of each. Here they are divided once for each trial that is proposed; how
finished trials rank and which values they have is remembered from one trial to the next. Same seed, same
trials, same answers. Reads the study's trials and writes nothing. Made by sampler.py, where shortcuts are on.

The method: Bergstra, Bardenet, Bengio and Kegl, Algorithms for Hyper-Parameter Optimization, NIPS 2011. That
running trials count among the bad ones (a constant liar) is Optuna's, since version 5 by default.
"""

import math
from bisect import insort
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers._tpe.sampler import default_gamma
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

LOOKED_AT = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)


Read = Callable[[FrozenTrial], Mapping[str, Any]]  # a trial's parameters


class Column:
    """A parameter's values as Optuna stores them, by the number of the trial; NaN where it has none."""

    def __init__(self, name: str, distribution: BaseDistribution) -> None:
        self.name, self.distribution = name, distribution
        self.values = np.full(0, np.nan)
        self.known = np.zeros(0, dtype=bool)  # of finished trials, whose parameters do not change any more

    def of(
        self, trials: Sequence[FrozenTrial], numbers: NDArray[np.int64], read: Read
    ) -> NDArray[np.float64]:
        missing = int(numbers.max(initial=-1)) + 1 - len(self.values)
        if missing > 0:
            room = max(missing, len(self.values))
            self.values = np.concatenate([self.values, np.full(room, np.nan)])
            self.known = np.concatenate([self.known, np.zeros(room, dtype=bool)])
        for index in np.flatnonzero(~self.known[numbers]).tolist():
            trial = trials[index]
            params = read(trial)
            there = self.name in params
            value = self.distribution.to_internal_repr(params[self.name]) if there else np.nan
            self.values[trial.number] = value
            self.known[trial.number] = trial.state.is_finished()
        return self.values[numbers]


class Ranking:
    """Finished trials from good to bad, as Optuna sorts them; none of them changes any more.

    Completed ones by value, then pruned ones by their last step and its value, then those over a constraint
    by how far; of equals the earlier is better.
    """

    def __init__(self, direction: StudyDirection) -> None:
        self.sign = -1.0 if direction == StudyDirection.MAXIMIZE else 1.0
        self.ranks: list[tuple[int, float, float, int]] = []  # the last is the number
        self.seen: set[int] = set()

    def split(self, trials: Sequence[FrozenTrial]) -> tuple[list[FrozenTrial], list[FrozenTrial]]:
        """The good and the bad, each in the order of the trials; those that run are bad."""
        finished = 0
        for trial in trials:
            if trial.state == TrialState.RUNNING:
                continue
            finished += 1
            if trial.number not in self.seen:
                self.seen.add(trial.number)
                insort(self.ranks, self.rank(trial))
        good = {number for *_, number in self.ranks[: default_gamma(finished)]}
        return (
            [trial for trial in trials if trial.number in good],
            [trial for trial in trials if trial.number not in good],
        )

    def rank(self, trial: FrozenTrial) -> tuple[int, float, float, int]:
        excess = sum(value for value in trial.constraints.values() if value > 0)
        if excess > 0:
            return 2, excess, 0.0, trial.number
        if trial.state == TrialState.COMPLETE:
            assert trial.value is not None
            return 0, self.sign * trial.value, 0.0, trial.number
        if not trial.intermediate_values:
            return 1, 1.0, 0.0, trial.number
        step, value = max(trial.intermediate_values.items())
        return 1, -step, math.inf if math.isnan(value) else self.sign * value, trial.number


class Part:
    """The good or the bad trials."""

    def __init__(self, trials: Sequence[FrozenTrial]) -> None:
        self.trials = trials
        self.numbers = np.array([trial.number for trial in trials], dtype=np.int64)


class CachedTPESampler(optuna.samplers.TPESampler):
    """TPESampler(seed, n_startup_trials) for the trials of one study, one after another.

    `after` is a sampler of the same study, whose knowledge of finished trials this one takes over; it may be
    of any kind. Raises ValueError, as TPESampler does, where it is asked about another study.
    """

    def __init__(
        self, *, seed: int, n_startup_trials: int, after: optuna.samplers.BaseSampler | None = None
    ) -> None:
        super().__init__(seed=seed, n_startup_trials=n_startup_trials, constant_liar=True)
        self._columns: dict[tuple[str, BaseDistribution], Column] = {}
        self._ranking: Ranking | None = None
        # Of the trial of this number, which is proposed now.
        self._division: tuple[int, Part, Part] | None = None
        if isinstance(after, CachedTPESampler):
            self._columns, self._ranking = after._columns, after._ranking
            self._search_space = after._search_space  # which parameters all trials share

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        super().before_trial(study, trial)
        self._division = None  # drafts all have the same number

    def _sample(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if self._division is None or self._division[0] != trial.number:
            self._division = self._divided(study, trial)
        _, *parts = self._division
        good_estimator, bad_estimator = (self._estimator(study, part, search_space) for part in parts)
        candidates = good_estimator.sample(self._rng.rng, self._n_ei_candidates)
        gains = self._compute_acquisition_func(candidates, good_estimator, bad_estimator)
        chosen = self._compare(candidates, gains)
        return {name: found.to_external_repr(chosen[name]) for name, found in search_space.items()}

    def _divided(self, study: optuna.Study, trial: FrozenTrial) -> tuple[int, Part, Part]:
        everything = study._get_trials(deepcopy=False, states=LOOKED_AT)
        self._ranking = self._ranking or Ranking(study.direction)
        good, bad = self._ranking.split([other for other in everything if other.number != trial.number])
        return trial.number, Part(good), Part(bad)

    def _estimator(self, study: optuna.Study, part: Part, search_space: dict[str, BaseDistribution]) -> Any:
        """Of the trials that have all of these parameters."""
        columns = {}
        for name, found in search_space.items():
            column = self._columns.setdefault((name, found), Column(name, found))
            columns[name] = column.of(part.trials, part.numbers, partial(self._get_params, study=study))
        whole = ~np.isnan(np.stack(list(columns.values()))).any(axis=0)
        values = {name: column[whole] for name, column in columns.items()}
        make: Callable[..., Any] = self._parzen_estimator_cls
        return make(values, search_space, self._parzen_estimator_parameters)
