"""Optuna's TPE with SciPy's normal distribution in place of its own loops in Python.

The same numbers to 12 digits in three quarters of the time, which thousands of simulated searches save as an
hour; a real study does without. A context manager around a simulated search, called by suite.py.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from optuna.samplers._tpe import _truncnorm
from scipy import special


@contextmanager
def hastened() -> Iterator[None]:
    """While it lasts; where an Optuna lays itself out differently, nothing happens but that it is slower."""
    swifter = {"_ndtr": special.ndtr, "_log_ndtr": special.log_ndtr, "_ndtri_exp": special.ndtri_exp}
    own = {name: getattr(_truncnorm, name, None) for name in swifter}
    for name, function in swifter.items():
        if own[name] is not None:
            setattr(_truncnorm, name, function)
    try:
        yield
    finally:
        for name, function in own.items():
            if function is not None:
                setattr(_truncnorm, name, function)
