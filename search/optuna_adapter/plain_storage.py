"""Optuna's storage under the time limits of our own database connections; no private name of Optuna's.

Opened by storage.py where shortcuts are off; FastStorage adds them.
"""

from typing import Any

from optuna.storages import RDBStorage

from storage import database


class PlainStorage(RDBStorage):
    """RDBStorage; it lets go of its connections where it cannot be opened, and can be pickled."""

    def __init__(self, url: str) -> None:
        options = database.engine_options(url)
        try:
            super().__init__(database.normalise(url), engine_kwargs=options)
            database.watch_transactions(self.engine, options)
        except Exception:
            if hasattr(self, "scoped_session"):
                self.let_go()
            raise

    def let_go(self) -> None:
        """Closes all connections."""
        self.remove_session()
        self.engine.dispose()

    def __getstate__(self) -> dict[Any, Any]:
        """Without the function that connects: it cannot be pickled and follows from the URL."""
        state: dict[Any, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "engine_kwargs"}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        options = database.engine_options(state["url"])
        super().__setstate__(state | {"engine_kwargs": options})
        database.watch_transactions(self.engine, options)
