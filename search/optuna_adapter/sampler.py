"""Makes the study's sampler anew for each claim, from the study's seed. Called by worker/trial.py.

Reads no trial itself and writes nothing.
"""

import optuna

from search.optuna_adapter import shortcuts
from search.optuna_adapter.pruner import STARTUP_TRIALS
from search.study.config import SamplerName


def make_sampler(
    name: SamplerName, *seed: int, after: optuna.samplers.BaseSampler | None = None
) -> optuna.samplers.BaseSampler:
    """A sampler for one claim. `seed` (none negative) holds the study's seed, the claim's ordinal and what
    else must differ, so that equal searches are equal and no two workers propose twins.

    It takes over what the one before it knew of the study's finished trials. To work that out anew would cost
    each proposal a look at every trial there is.
    """
    number = _mixed(seed)
    if name == "random":
        return optuna.samplers.RandomSampler(seed=number)
    if name == "gp":
        return optuna.samplers.GPSampler(seed=number, n_startup_trials=STARTUP_TRIALS)
    if not shortcuts.enabled():
        return optuna.samplers.TPESampler(seed=number, n_startup_trials=STARTUP_TRIALS, constant_liar=True)
    from search.optuna_adapter.cached_tpe import CachedTPESampler  # imports private modules of Optuna

    return CachedTPESampler(seed=number, n_startup_trials=STARTUP_TRIALS, after=after)


def _mixed(seed: tuple[int, ...]) -> int:
    from numpy.random import SeedSequence

    return int(SeedSequence(seed).generate_state(1)[0])
