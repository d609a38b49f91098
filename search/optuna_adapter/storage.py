"""Opens Optuna's storage in the study's database, beside our tables; makes its tables where there are none.

Called by study.py and dashboard.py. It knows no study: only which of the two storages to open, FastStorage
where shortcuts are on and PlainStorage else, both under the time limits of storage/database.py.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, IntegrityError

from search.optuna_adapter import shortcuts
from search.optuna_adapter.plain_storage import PlainStorage

# Optuna creates its 13 tables one by one; a launcher that creates them at the same time can fail at any of
# them, and tries again.
CREATE_ATTEMPTS = 8


Kind = type[PlainStorage]


@contextmanager
def open_storage(
    url: str, view: Callable[[Kind], Kind] | None = None, ledger: Engine | None = None
) -> Iterator[PlainStorage]:
    """Optuna's tables in the same database, under the same time limits; made where they are not there.

    `view` makes of the kind of storage another one, which is opened. `ledger` is the engine of the same URL
    whose connections it is to use, on PostgreSQL; without it, it has its own.

    Raises StorageError for what is no URL, and sqlalchemy.exc.DBAPIError or
    optuna.exceptions.StorageInternalError where the database cannot be used.
    """
    storage = _created(url, view(_kind()) if view else _kind(), ledger)
    try:
        yield storage
    finally:
        storage.let_go()


def _created(url: str, kind: Kind, ledger: Engine | None) -> PlainStorage:
    for attempt in range(1, CREATE_ATTEMPTS + 1):
        try:
            return kind(url, ledger)
        except DBAPIError as error:
            made_meanwhile = isinstance(error, IntegrityError) or "already exists" in str(error)
            if not made_meanwhile or attempt == CREATE_ATTEMPTS:
                raise
    raise AssertionError("the last attempt returns or raises")


def _kind() -> Kind:
    if not shortcuts.enabled():
        return PlainStorage
    from search.optuna_adapter.fast_storage import FastStorage  # imports private modules of Optuna

    return FastStorage
