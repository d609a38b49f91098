"""The time that devices had each trial of a search, where an attempt that another went on from counts once.

Computes it from rows of the ledger and their epochs; reads and writes nothing. Called by search/study/bill.py
and search/report/data.py; which epochs they need, by search/study/second_stage.py.
"""

from collections.abc import Iterable, Mapping, Sequence

from storage.row_types import INTERRUPTED, Candidate, Epoch, State


def spent(rows: Iterable[Candidate], epochs: Mapping[int, Sequence[Epoch]]) -> dict[int, float]:
    """Seconds by the candidate's id: those of its training, or without a result those until its end. None of
    an interrupted attempt where a later one has gone on from its checkpoint, and has them too; one whose
    checkpoint lies on another machine is trained anew, and both have cost what they took.

    `epochs` by the candidate's id, in their order; those of needed() are enough.
    """
    rows = sorted(rows, key=lambda row: row.number)
    known = {row.id: _trained_for(row, epochs) for row in rows}
    later = {row.fingerprint: list[Candidate]() for row in rows if row.state in INTERRUPTED}
    found = dict[int, float]()
    for row in reversed(rows):
        attempts, seconds = later.get(row.fingerprint, []), known[row.id]
        if row.state in INTERRUPTED and any(_goes_on(one, row, epochs) for one in attempts):
            found[row.id] = 0.0
        elif seconds is None:
            found[row.id] = ((row.finished_at or row.proposed_at) - row.proposed_at).total_seconds()
        else:
            found[row.id] = seconds
        if seconds:  # one that runs has none yet: until then the time is that of the attempt before
            attempts.append(row)
    return {row.id: found[row.id] for row in rows}


def needed(rows: Sequence[Candidate]) -> set[int]:
    """The ids of those whose epochs spent() looks at: interrupted attempts and others at their networks."""
    interrupted = {row.fingerprint for row in rows if row.state in INTERRUPTED}
    return {row.id for row in rows if row.fingerprint in interrupted}


def _trained_for(row: Candidate, epochs: Mapping[int, Sequence[Epoch]]) -> float | None:
    """Seconds, with those of the epochs that it went on from; None where nothing says so. Of a lost attempt
    those of its epochs: its stored end is when the loss was noticed."""
    if row.state != State.LOST:
        return row.seconds
    return sum(epoch.seconds for epoch in epochs.get(row.id, ()))


def _goes_on(later: Candidate, row: Candidate, epochs: Mapping[int, Sequence[Epoch]]) -> bool:
    """Whether an attempt began with the epochs of an earlier one: it stores them again, as long as they took
    to the last digit, which no two that were trained have in common."""
    first, again = (next(iter(epochs.get(one.id, ())), None) for one in (row, later))
    if first is None or again is None:
        return False
    return (first.epoch, first.seconds) == (again.epoch, again.seconds)
