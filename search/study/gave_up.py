"""Why a search ended of which nothing was trained any more, in one line: the reason, and the flag to change.

A pure function of ledger rows; that the search ends is decided in the transaction that writes such a row
(storage/studies.py, give_up_where_due). Called by the launcher, workers, `search status` and the next launch.
"""

import shlex
from collections import Counter
from collections.abc import Sequence

from storage.row_types import Candidate, State

DID = {
    State.DIVERGED: "diverged",
    State.TIMED_OUT: "timed out",
    State.OUT_OF_MEMORY: "ran out of memory",
    State.FAILED: "failed",
    State.LOST: "lost their worker on every attempt",
}

ADVICE = {
    State.DIVERGED: "lower learning_rate (--recipe) in a new study",
    State.TIMED_OUT: "raise --trial-timeout",
    State.OUT_OF_MEMORY: "a smaller --max-macs, or batch_size (--recipe), in a new study; or a larger"
    " --trial-memory",
    State.FAILED: "`search trials {study} --state failed` has all reasons",
    State.LOST: "`search logs {study}` ends with what killed them",
}

STALLED = "raise --stall-timeout"  # of a training without a batch, whose reason names that flag


def reason(rows: Sequence[Candidate], study: str) -> str:
    """The line for these networks of a study, of which the first ended last; empty for none."""
    counted = Counter(row.state for row in rows)
    if not counted:
        return ""
    most = counted.most_common(1)[0][0]
    last = next(row for row in rows if row.state == most)
    said = (last.reason or "").strip().splitlines()
    why = f" (the last: {said[-1]})" if said else ""
    return f"{_counted(counted)}{why}: {_advice(most, last, study)}"


def _counted(counted: Counter[State]) -> str:
    number = sum(counted.values())
    networks = "1 network" if number == 1 else f"{number} networks in a row"
    if len(counted) == 1:
        return f"{networks} {DID[next(iter(counted))]}"
    parts = ", ".join(f"{count} {DID[state]}" for state, count in counted.most_common())
    return f"{networks} came to nothing, {parts}"


def _advice(most: State, last: Candidate, study: str) -> str:
    if most == State.TIMED_OUT and "--stall-timeout" in (last.reason or ""):
        return STALLED
    return ADVICE[most].format(study=shlex.quote(study))
