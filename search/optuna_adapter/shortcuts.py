"""Whether our shortcuts through Optuna's private names are taken: on tested versions, unless switched off.

Without them Optuna's own storage, sampler, ask and pruner do the work: slower, and with the same results.
Read by every module of this room that has a shortcut; the modules that import private modules of Optuna
(fast_storage, statements, cached_tpe) are loaded only where this says so.
"""

import logging
from functools import cache

import optuna

from search import settings

# Major and minor. From 4.9 to 5.0 Optuna changed 358 lines of its TPE sampler alone: a version counts as
# tested once its contract tests and ours have passed on it (tests/optuna_adapter).
TESTED = ((5, 0),)


def enabled() -> bool:
    """Whether private names of Optuna may be used; says once why, if they may not."""
    if settings.plain_optuna():
        _say("SEARCH_PLAIN_OPTUNA is set")
        return False
    if _release(optuna.__version__) not in TESTED:
        _say(f"Optuna {optuna.__version__} was not tested")
        return False
    return True


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


@cache
def _say(reason: str) -> None:
    logging.getLogger(__name__).warning(
        "%s: Optuna's own storage, sampler and pruner are used, slower and with the same results", reason
    )
