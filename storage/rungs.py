"""The second stage of a search: trainings that its best networks are asked for once its trials are done.

Reads and writes search_rung_trainings; grants claims on its rows, which storage/leases.py renews, reaps and
evicts like those of trials. Called by search/worker/ and search/recording/, read by all that show a study.
Who goes on to which rung it does not know: search/study/halving.py chooses, and enter() takes that down.

A row waits (its state is NULL), runs under one claim, and ends once. A lost one waits again, three attempts
in all; one that was told to end waits again, and that is no attempt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import Connection, Engine, Row, Select, Update, insert, select, update

from storage import leases, studies, tables
from storage.candidates import TransactionStep, finite, give_back
from storage.database import moment, reading, writing
from storage.leases import Claim, NoClaim
from storage.row_types import Epoch, RungEntry, RungTraining, Stage, State, TrainingMetrics
from storage.studies import Control

TABLE = tables.rung_trainings


def _all() -> Select[Any]:
    names = [field.name for field in fields(RungTraining)]
    columns = [tables.candidates.c.number if name == "number" else TABLE.c[name] for name in names]
    return select(*columns).join(tables.candidates, tables.candidates.c.id == TABLE.c.candidate_id)


def _training(row: Row[Any]) -> RungTraining:
    known = {"stage": Stage(row.stage), "state": State(row.state) if row.state else None}
    return RungTraining(**{**row._mapping, **known})


def of_study(engine: Engine, study_id: int) -> list[RungTraining]:
    """Return every training of the second stage, in the order in which they were entered."""
    with reading(engine) as connection:
        return _of_study(connection, study_id)


def _of_study(connection: Connection, study_id: int) -> list[RungTraining]:
    query = _all().where(TABLE.c.study_id == study_id).order_by(TABLE.c.id)
    return [_training(row) for row in connection.execute(query)]


def enter(
    engine: Engine,
    study_id: int,
    entries: Sequence[RungEntry],
    *,
    by: Mapping[str, Any] | None = None,
    instead: Mapping[str, Any] | None = None,
) -> int:
    """Ask for these trainings, all but those that are there; returns how many are new.

    None is entered while trials are owed: they may change who goes on; nor where they were chosen `by` a plan
    in whose place there is another one meanwhile. `instead` is the plan that the study has from then on.
    Raises StudyError where the study has gone.
    """
    with writing(engine) as connection:
        study = studies.lock(connection, study_id)
        if studies.trained(connection, study_id) < study.trials:
            return 0
        if by is not None and study.finish != by:
            return 0
        if instead is not None and instead != study.finish:
            studies.set_finish_in(connection, study_id, instead)
        known = {one.entry for one in _of_study(connection, study_id)}
        new = [asdict(entry) for entry in dict.fromkeys(entries) if entry not in known]
        asked = {"study_id": study_id, "attempt": 1, "entered_at": moment(connection)}
        if new:
            connection.execute(insert(TABLE), [entry | asked for entry in new])
        return len(new)


def claim(
    engine: Engine,
    study_id: int,
    worker: str,
    lease_seconds: float,
    device: str | None = None,
    leaves: bool = False,
) -> tuple[Claim, RungTraining] | NoClaim:
    """Take the training that waits longest, or the one that this worker was given by an answer that it never
    heard. DONE: none waits and none runs, be it that there is none at all. LEFT: one waits, and the worker
    `leaves` it to others.

    Raises StudyError where the study has gone.
    """
    with writing(engine) as connection:
        study = studies.lock(connection, study_id)
        unheard = _unheard(connection, study_id, worker)
        if study.order != Control.RUN:
            if unheard:
                give_back(connection, unheard[0])
                connection.execute(_mine(unheard[0], unheard[1].id).values(state=None))
            return NoClaim.STOPPED
        if unheard:
            return unheard
        owed = [one for one in _of_study(connection, study_id) if not one.has_ended]
        waiting = next((one for one in owed if one.state is None), None)
        if waiting is None:
            return NoClaim.WAIT if owed else NoClaim.DONE
        if leaves:
            return NoClaim.LEFT
        mine = leases.new_claim(connection, study_id, worker, lease_seconds, waiting.id)
        taken = {"state": State.RUNNING, "worker": worker, "device": device, "token": mine.token}
        connection.execute(update(TABLE).where(TABLE.c.id == waiting.id).values(taken))
        return mine, _find(connection, waiting.id)


def _find(connection: Connection, training_id: int) -> RungTraining:
    return _training(connection.execute(_all().where(TABLE.c.id == training_id)).one())


def _unheard(connection: Connection, study_id: int, worker: str) -> tuple[Claim, RungTraining] | None:
    """The claim of a worker that asks for one: it trains nothing, so it never heard of this one."""
    claims = tables.claims
    query = select(
        claims.c.token, claims.c.study_id, claims.c.ordinal, claims.c.worker, claims.c.rung_training_id
    )
    mine = (claims.c.study_id == study_id, claims.c.worker == worker, claims.c.rung_training_id.is_not(None))
    row = connection.execute(query.where(*mine).order_by(claims.c.token).limit(1)).first()
    if row is None:
        return None
    held = Claim(*row[:4])
    leases.renew_in(connection, held)
    return held, _find(connection, row.rung_training_id)


def save_epoch(engine: Engine, claim: Claim, training_id: int, epoch: Epoch) -> None:
    """Store how far a training is, and renew the lease. Raises LeaseLostError where the claim has gone."""
    reached = {
        "accuracy": epoch.validation_accuracy,
        "loss": epoch.validation_loss,
        "score": epoch.score,
    }
    values = {name: finite(value) for name, value in reached.items()} | {"epoch": epoch.epoch}
    with writing(engine, durable=False) as connection:
        leases.renew_in(connection, claim)
        connection.execute(_mine(claim, training_id).values(values))


def _mine(claim: Claim, training_id: int) -> Update:
    """Of a training that runs under this claim."""
    running = (TABLE.c.token == claim.token, TABLE.c.state == State.RUNNING)
    return update(TABLE).where(TABLE.c.id == training_id, *running)


def finish(
    engine: Engine,
    claim: Claim,
    training_id: int,
    state: State,
    *,
    reason: str | None = None,
    outcome: TrainingMetrics | None = None,
    in_transaction: TransactionStep | None = None,
) -> None:
    """Write what became of a training and give the claim back; a cancelled one waits again.

    `in_transaction` is called with the connection before the commit. Raises LeaseLostError where the claim
    has gone, StudyError where the study has; then nothing is changed.
    """
    waits = state == State.CANCELLED
    with writing(engine) as connection:
        studies.lock(connection, claim.study_id)
        if not give_back(connection, claim):
            there = select(TABLE.c.state).where(TABLE.c.id == training_id, TABLE.c.token == claim.token)
            found = connection.execute(there).first()
            if found is not None and found.state == (None if waits else state):
                return  # the call before this one got through, only its answer did not
            raise leases.lost(claim)
        ended: dict[str, object] = {"state": None if waits else state, "reason": reason}
        if not waits:
            ended |= {"finished_at": moment(connection), **_columns(outcome)}
        if connection.execute(_mine(claim, training_id).values(ended)).rowcount == 0:
            raise leases.lost(claim)
        if in_transaction:
            in_transaction(connection)


def _columns(outcome: TrainingMetrics | None) -> dict[str, float | None]:
    found = {key: finite(value) for key, value in asdict(outcome).items()} if outcome else {}
    if "epochs" in found:
        found["epoch"] = found.pop("epochs")
    return found
