"""What a worker is told by whoever starts it, and how that is written on a command line.

Records alone: they read and write nothing. The launcher makes one for each worker and starts it with
to_argv(); `search worker` makes the same record of its options (a test holds them equal); the worker's
context keeps it.
"""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from search import settings


def _flag(name: str, default: Any = None) -> Any:
    """A field that has a flag of `search worker`; one that is None or False is not written."""
    return field(default=default, metadata={"flag": name})


@dataclass(frozen=True, kw_only=True)
class WorkerLimits:
    """What holds for all workers of a launch alike: `search launch` has these options too."""

    lease_seconds: float = _flag("--lease", settings.LEASE_SECONDS)  # of silence: then it is taken for dead
    stall_seconds: float = _flag("--stall-timeout", settings.STALL_SECONDS)  # without a batch: it hangs
    trial_seconds: float | None = _flag("--trial-timeout")  # for a whole trial; None is no limit
    trial_memory: int | None = _flag("--trial-memory")  # bytes of its device's memory; None is no limit
    # That the database may be away.
    database_timeout_seconds: float = _flag("--database-timeout", settings.DATABASE_TIMEOUT_SECONDS)
    grace_seconds: float = _flag("--grace", settings.GRACE_SECONDS)  # that a trial has once told to end
    # Networks, the best of a study; None is as it was last said on the machine (search/study/files.py).
    keep_weights: int | None = _flag("--keep-weights")

    def limits(self) -> dict[str, Any]:
        """These fields alone, by name, also of a record that has more."""
        return {one.name: getattr(self, one.name) for one in fields(WorkerLimits)}

    def changed(self) -> dict[str, Any]:
        """Of these fields those that are not as by default: each value by its flag."""
        default = {one.name: one.default for one in fields(WorkerLimits)}
        return {flag: value for name, flag, value in self.flagged() if value != default[name]}

    def flagged(self) -> list[tuple[str, str, Any]]:
        """Of these fields the name, the flag and the value."""
        return [(one.name, one.metadata["flag"], getattr(self, one.name)) for one in fields(WorkerLimits)]


@dataclass(frozen=True, kw_only=True)
class WorkerOptions(WorkerLimits):
    """One worker's study, place and limits. What concerns networks and training is stored with the study."""

    storage: str  # URL of the database, with its password: it travels in the environment, never in argv
    data_dir: Path = field(metadata={"flag": "--data-dir"})
    study: str | None = _flag("--study")  # None is the newest
    name: str | None = _flag("--name")  # of the worker, as the ledger knows it
    parent: int | None = _flag("--parent")  # process of the launcher that started it, None for one by hand
    data: str | None = _flag("--data")  # where the images lie on this machine, if elsewhere
    data_from: str | None = _flag("--data-from")  # who has them prepared, if this machine has none
    follow: bool = _flag("--follow", default=False)  # one study after another, until told to end
    verbose: bool = _flag("--verbose", default=False)  # a line for each epoch too
    quiet: bool = _flag("--quiet", default=False)  # warnings alone
    make_room: bool = _flag("--make-room", default=False)  # leave a device whose memory is short

    def to_argv(self) -> list[str]:
        """The words `worker --...` that mean this record, all but its storage."""
        words = ["worker"]
        for one in fields(self):
            value, flag = getattr(self, one.name), one.metadata.get("flag")
            if flag is not None and value is not None and value is not False:
                words += [flag] if value is True else [flag, str(value)]
        return words
