"""Optuna's storage under the time limits of our own database connections; no private name of Optuna's.

Opened by storage.py where shortcuts are off; FastStorage adds them. On PostgreSQL it takes its connections
from the ledger's engine where it is given that: a process then has one pool for both sets of tables.
"""

from collections.abc import Sequence
from typing import Any

from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy import Engine, text

from storage import database

TAKE = text("UPDATE trials SET state = state WHERE trial_id = :trial")
LEFT_OUT = ("engine_kwargs", "engine", "ledger")  # where it is pickled


class PlainStorage(RDBStorage):
    """RDBStorage; it lets go of its connections where it cannot be opened, and can be pickled."""

    ledger: Engine | None = None  # whose connections are used in place of connections of its own

    def __init__(self, url: str, ledger: Engine | None = None) -> None:
        # In a file Optuna begins its transactions otherwise than we do (storage/database.py).
        self.ledger = ledger if ledger is not None and ledger.name == "postgresql" else None
        options = database.engine_options(url)
        try:
            super().__init__(database.normalise(url), engine_kwargs=options)
            if self.ledger is None:  # the ledger's is watched already
                database.watch_transactions(self.engine, options)
        except Exception:
            if hasattr(self, "scoped_session"):
                self.let_go()
            raise

    @property
    def engine(self) -> Engine:
        """Where its sessions take their connections."""
        return self.__dict__["engine"]  # type: ignore[no-any-return]

    @engine.setter
    def engine(self, made: Engine) -> None:
        """RDBStorage makes an engine, which connects to nothing before it is used, and assigns it here."""
        self.__dict__["engine"] = made if self.ledger is None else self.ledger  # RDBStorage looks there too

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """As Optuna's. Two workers never take the same waiting trial: a file knows no FOR UPDATE, so that its
        one writer is made to wait before the state is read."""
        if state == TrialState.RUNNING and self.engine.name == "sqlite":
            session = self.scoped_session()
            try:
                session.execute(TAKE, {"trial": trial_id})
            except Exception:
                session.rollback()
                raise
        return super().set_trial_state_values(trial_id, state, values)

    def let_go(self) -> None:
        """Closes all connections that are its own."""
        self.remove_session()
        if self.ledger is None:
            self.engine.dispose()

    def __getstate__(self) -> dict[Any, Any]:
        """Without the function that connects, which cannot be pickled and follows from the URL, and without
        connections."""
        state: dict[Any, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name not in LEFT_OUT}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        options = database.engine_options(state["url"])
        super().__setstate__(state | {"engine_kwargs": options})
        database.watch_transactions(self.engine, options)
