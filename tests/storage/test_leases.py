import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from ledger_samples import (
    LEASE_SECONDS,
    epoch,
    everything,
    expire,
    make_study,
    outcome,
    proposal,
    start,
    take,
    train,
)
from postgres_server import NoPostgres, Postgres
from sqlalchemy import Engine, Row, select, text, update

from space.errors import LeaseLostError, StudyError
from storage import candidates, database, leases, studies, tables, workers
from storage.leases import Claim, NoClaim
from storage.row_types import State
from storage.studies import Control, Study


def ask(engine: Engine, study: Study) -> Claim | NoClaim:
    return leases.claim(engine, study.id, "asking", LEASE_SECONDS)


def test_claims_are_numbered_from_one_and_end_with_the_target(engine: Engine) -> None:
    study = make_study(engine, trials=2)
    first, second = take(engine, study), take(engine, study, "two")
    assert [first.ordinal, second.ordinal] == [1, 2]
    assert ask(engine, study) is NoClaim.WAIT
    leases.release(engine, second)
    assert take(engine, study, "three").ordinal == 3


def test_a_look_that_is_out_of_date_grants_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look, which takes no lock, and the claim another worker may be first: N is N."""
    study = make_study(engine, trials=1)
    seen = leases._look(engine, study.id, "asking")
    assert (seen.trials, seen.trained, seen.held, seen.has_unused) == (1, 0, 0, False)
    monkeypatch.setattr(leases, "_look", lambda *_: seen)
    first = take(engine, study, "first")
    assert ask(engine, study) is NoClaim.WAIT
    leases.release(engine, first)
    studies.set_control(engine, study.id, Control.PAUSE)
    assert ask(engine, study) is NoClaim.STOPPED
    studies.set_control(engine, study.id, Control.RUN)
    train(engine, study, 0, 0.5)
    assert ask(engine, study) is NoClaim.DONE
    assert leases.running(engine, study.id) == []


def test_a_study_is_done_when_its_target_is_trained(engine: Engine) -> None:
    study = make_study(engine, trials=2)
    train(engine, study, 0, 0.5)
    claim, pruned = start(engine, study, 1)
    candidates.finish(engine, claim, pruned.id, State.PRUNED)
    assert ask(engine, study) is NoClaim.DONE
    studies.set_trials(engine, study.id, 3)
    assert isinstance(ask(engine, study), Claim)


@pytest.mark.parametrize(
    "state", [State.FAILED, State.DIVERGED, State.OUT_OF_MEMORY, State.TIMED_OUT, State.CANCELLED]
)
def test_a_candidate_that_came_to_nothing_does_not_count(engine: Engine, state: State) -> None:
    study = make_study(engine, trials=1)
    claim, candidate = start(engine, study, 0)
    candidates.finish(engine, claim, candidate.id, state, reason="for the test")
    assert isinstance(ask(engine, study), Claim)


@pytest.mark.parametrize("order", sorted(set(Control) - {Control.RUN}))
def test_an_order_ends_new_claims_and_leaves_the_held_ones(engine: Engine, order: Control) -> None:
    study = make_study(engine, trials=2)
    claim, candidate = start(engine, study, 0)
    studies.set_control(engine, study.id, order)
    assert ask(engine, study) is NoClaim.STOPPED
    candidates.finish(engine, claim, candidate.id, State.COMPLETED, outcome=outcome(0.5))
    studies.set_control(engine, study.id, Control.RUN)
    assert isinstance(ask(engine, study), Claim)


def test_who_renews_hears_the_order(engine: Engine) -> None:
    study = make_study(engine)
    claim, _candidate = start(engine, study, 0)
    for order in Control:
        studies.set_control(engine, study.id, order)
        assert leases.renew(engine, claim, LEASE_SECONDS) is order


def test_a_claim_whose_answer_was_lost_is_handed_out_again(engine: Engine) -> None:
    study = make_study(engine, trials=2)
    unheard = take(engine, study)
    other = take(engine, study, "two")
    expire(engine, unheard)
    assert take(engine, study) == unheard
    assert leases.reap(engine, study.id) == []  # it was renewed
    assert ask(engine, study) is NoClaim.WAIT
    candidates.propose(engine, unheard, proposal(0))
    leases.release(engine, other)
    assert take(engine, study) not in (unheard, other)  # in use, or given back


def test_an_unused_claim_is_taken_back_from_who_is_told_to_stop(engine: Engine) -> None:
    study = make_study(engine)
    take(engine, study)
    take(engine, study, "two")
    studies.set_control(engine, study.id, Control.PAUSE)
    assert leases.claim(engine, study.id, "one", LEASE_SECONDS) is NoClaim.STOPPED
    assert [one.worker for one in leases.running(engine, study.id)] == ["two"]


def test_a_target_is_never_set_below_what_is_trained_and_held(engine: Engine) -> None:
    study = make_study(engine, trials=5)
    train(engine, study, 0, 0.5)
    claim, candidate = start(engine, study, 1)
    studies.set_trials(engine, study.id, 1)
    assert studies.find(engine).trials == 2
    assert ask(engine, study) is NoClaim.WAIT
    candidates.finish(engine, claim, candidate.id, State.COMPLETED, outcome=outcome(0.5))
    assert ask(engine, study) is NoClaim.DONE


def test_a_claim_on_a_deleted_study_is_an_error(engine: Engine) -> None:
    with pytest.raises(StudyError, match="id 77"):
        leases.claim(engine, 77, "one", LEASE_SECONDS)


def test_a_live_claim_is_not_reaped(engine: Engine) -> None:
    study = make_study(engine)
    claim, candidate = start(engine, study, 0)
    assert leases.reap(engine, study.id) == []
    candidates.save_epoch(engine, claim, candidate.id, epoch(1))


def test_an_expired_claim_is_reaped_once_with_its_reason(engine: Engine) -> None:
    study = make_study(engine, trials=1)
    claim, candidate = start(engine, study, 0, worker="host:3")
    expire(engine, claim)
    (held,) = claims(engine)
    assert ask(engine, study) is NoClaim.WAIT  # until it is reaped it may come back
    (lost,) = leases.reap(engine, study.id)
    assert lost.finished_at
    silent = lost.finished_at.timestamp() - held.renewed_at
    assert silent >= 90.0
    assert (lost.id, lost.state, lost.reason) == (
        candidate.id,
        State.LOST,
        f"worker host:3 was silent for {silent:.0f} s",
    )
    assert leases.reap(engine, study.id) == []
    assert candidates.find(engine, study.id, 0) == lost
    again = candidates.propose(engine, take(engine, study), proposal(1, fingerprint="network-0"))
    assert again.state == State.RUNNING


def silence(engine: Engine, seconds: float) -> None:
    """Nobody was heard of for so long, as after an outage; the next look is the first."""
    with database.writing(engine) as connection:
        moved = {name: tables.claims.c[name] - seconds for name in ("renewed_at", "expires_at")}
        connection.execute(update(tables.claims).values(moved))


def test_who_comes_after_an_outage_takes_nothing_from_workers_that_were_not_heard(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that was cut for an hour, a laptop that slept: whoever has just come cannot know it."""
    monkeypatch.setattr(leases, "START_OF_POSTGRES", "0.0")  # it ran through all of that
    study = make_study(engine, trials=2)
    (alive, _), (_, dead) = start(engine, study, 0, worker="alive"), start(engine, study, 1, worker="dead")
    silence(engine, 3600.0)
    for _ in range(3):  # a worker, `search status`, a launcher
        assert leases.reap(engine, study.id) == []
    leases.renew(engine, alive, LEASE_SECONDS)  # at its next beat
    silence(engine, leases.NOTICE * LEASE_SECONDS - 60.0)
    assert leases.reap(engine, study.id) == []
    silence(engine, 70.0)
    assert [one.id for one in leases.reap(engine, study.id)] == [dead.id]
    leases.renew(engine, alive, LEASE_SECONDS)
    silence(engine, LEASE_SECONDS + 1.0)
    assert leases.reap(engine, study.id) == [], "who was heard since has a notice of its own"
    silence(engine, leases.NOTICE * LEASE_SECONDS)
    assert [one.number for one in leases.reap(engine, study.id)] == [0]


def test_who_is_noticed_before_its_lease_is_over_has_half_a_lease_after_it_and_is_heard_till_then(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "START_OF_POSTGRES", "0.0")
    study = make_study(engine, trials=2)
    began = time.monotonic()
    (alive, _), (_, dead) = start(engine, study, 0, worker="alive"), start(engine, study, 1, worker="dead")
    silence(engine, 0.6 * LEASE_SECONDS)
    assert leases.notice(engine, study.id, []) == 0.0
    for _ in range(2):
        left = leases.notice(engine, study.id, ["alive", "dead"])
        assert left == pytest.approx(0.9 * LEASE_SECONDS, abs=time.monotonic() - began + 0.01)
    silence(engine, left - 60.0)
    assert leases.reap(engine, study.id) == []
    leases.renew(engine, alive, LEASE_SECONDS)
    silence(engine, 70.0)
    assert [one.id for one in leases.reap(engine, study.id)] == [dead.id]
    assert leases.notice(engine, study.id, ["dead"]) == 0.0
    silence(engine, LEASE_SECONDS)
    assert leases.reap(engine, study.id) == [], "who was heard since has a notice of its own"


def test_a_claim_without_a_candidate_is_reaped_silently(engine: Engine) -> None:
    study = make_study(engine, trials=1)
    expire(engine, take(engine, study))
    assert leases.reap(engine, study.id) == []
    assert isinstance(ask(engine, study), Claim)


@pytest.mark.parametrize("use", ["propose", "save_epoch", "renew"])
def test_a_slow_worker_that_comes_back_in_time_keeps_its_claim(engine: Engine, use: str) -> None:
    study = make_study(engine)
    claim, candidate = start(engine, study, 0)
    expire(engine, claim)
    if use == "propose":
        candidates.propose(engine, claim, proposal(1))
    elif use == "save_epoch":
        candidates.save_epoch(engine, claim, candidate.id, epoch(1))
    else:
        leases.renew(engine, claim, LEASE_SECONDS)
    (one,) = claims(engine)
    assert one.expires_at == pytest.approx(one.renewed_at + one.lease_seconds)
    leases.renew(engine, claim, LEASE_SECONDS)
    assert leases.reap(engine, study.id) == []


def claims(engine: Engine) -> Sequence[Row[Any]]:
    with database.reading(engine) as connection:
        return connection.execute(select(tables.claims)).all()


def test_a_server_that_was_down_gives_every_worker_its_lease_to_be_heard() -> None:
    try:
        server = Postgres().start()
    except NoPostgres as reason:
        pytest.skip(str(reason))
    try:
        engine = database.connect(server.url())
        database.prepare(engine)
        study = make_study(engine)
        (alive, _), (dead, lost) = start(engine, study, 0), start(engine, study, 1, worker="dead")
        server.stop()
        server.start()
        silent = text(
            "UPDATE search_claims SET renewed_at = renewed_at - 3600, expires_at = expires_at - 3600"
        )
        with database.writing(engine) as connection:
            connection.execute(silent)
        assert leases.reap(engine, study.id) == []
        leases.renew(engine, alive, LEASE_SECONDS)
        expire(engine, dead)  # its lease has passed since the start, too
        assert [one.id for one in leases.reap(engine, study.id)] == [lost.id]
        engine.dispose()
    finally:
        server.remove()


def test_a_dead_worker_is_evicted_at_once_and_alone(engine: Engine) -> None:
    study = make_study(engine)
    start(engine, study, 0, worker="dead")
    claim, alive = start(engine, study, 1, worker="alive")
    (lost,) = leases.evict(engine, study.id, "dead")
    assert (lost.number, lost.state, lost.reason) == (0, State.LOST, "worker dead died")
    assert leases.evict(engine, study.id, "dead") == []
    candidates.finish(engine, claim, alive.id, State.COMPLETED, outcome=outcome(0.5))


def test_what_was_trained_is_not_lost_with_a_claim_that_points_at_it(engine: Engine) -> None:
    """Books that were tampered with, which `search db check` names."""
    study = make_study(engine)
    trained = train(engine, study, 0, 0.5)
    claim = take(engine, study, "dead")
    with database.writing(engine) as connection:
        table = tables.claims
        mine = update(table).where(table.c.token == claim.token)
        connection.execute(mine.values(candidate_id=trained.id))
    assert leases.evict(engine, study.id, "dead") == []
    assert candidates.find(engine, study.id, 0) == trained


def test_trials_that_are_given_up_are_owed_by_nobody(engine: Engine) -> None:
    """They are lost and their workers are told; what is trained stays, as does what others have, and nobody
    begins another."""
    study = make_study(engine, trials=5)
    train(engine, study, 0, 0.5)
    claim, slow = start(engine, study, 1, worker="slow")
    choosing = take(engine, study, "choosing")
    other = take(engine, study, "other")
    assert leases.give_up_trials(engine, study.id, ["nobody"], "") == []
    assert studies.get(engine, study.id).trials == 5
    (lost,) = leases.give_up_trials(engine, study.id, ["slow", "choosing"], "worker {worker} was slow")
    assert (lost.id, lost.state, lost.reason) == (slow.id, State.LOST, "worker slow was slow")
    assert studies.get(engine, study.id).trials == 2
    assert ask(engine, study) is NoClaim.WAIT
    leases.renew(engine, other, LEASE_SECONDS)
    for held in (claim, choosing):
        with pytest.raises(LeaseLostError):
            leases.renew(engine, held, LEASE_SECONDS)
    assert leases.give_up_trials(engine, study.id, ["slow", "choosing"], "again") == []
    studies.set_trials(engine, study.id, 3)
    take(engine, study, "another")
    again = candidates.next_retry(engine, study.id)
    assert again and again.number == slow.number


def test_where_trials_were_closed_one_that_comes_to_nothing_lowers_the_target(engine: Engine) -> None:
    study = make_study(engine, trials=9)
    train(engine, study, 0, 0.5)
    claim, diverges = start(engine, study, 1)
    start(engine, study, 2, worker="dies")
    take(engine, study, "chooses")
    silent, _ = start(engine, study, 3, worker="silent")
    ends, good = start(engine, study, 4, worker="good")
    assert studies.shorten(engine, study.id, {studies.CLOSED_FROM: 9}, close=True)
    targets = [studies.get(engine, study.id).trials]
    for _ in range(2):  # the answer was lost
        candidates.finish(engine, claim, diverges.id, State.DIVERGED, reason="nan")
        targets.append(studies.get(engine, study.id).trials)
    for worker in ("dies", "chooses", "nobody"):
        leases.evict(engine, study.id, worker)
        targets.append(studies.get(engine, study.id).trials)
    expire(engine, silent)
    leases.reap(engine, study.id)
    targets.append(studies.get(engine, study.id).trials)
    assert targets == [6, 5, 5, 4, 3, 3, 2]
    assert ask(engine, study) is NoClaim.WAIT
    candidates.finish(engine, ends, good.id, State.COMPLETED, outcome=outcome(0.5))
    assert ask(engine, study) is NoClaim.DONE
    assert candidates.next_retry(engine, study.id) is None


def test_trials_of_an_exhausted_space_end_once_nobody_holds_one(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study(engine, trials=9)
    assert leases.close_exhausted(engine, study.id) is None, "nothing is trained"
    train(engine, study, 0, 0.5)
    assert leases.close_exhausted(engine, study.id) is None, "it has no second stage"
    studies.set_finish(engine, study.id, {"finals": 1})
    seen = leases._look(engine, study.id, "asking")
    claim, running = start(engine, study, 1)
    assert leases.close_exhausted(engine, study.id) is NoClaim.WAIT
    with monkeypatch.context() as patch:
        patch.setattr(leases, "_look", lambda *_: seen)
        assert leases.close_exhausted(engine, study.id) is NoClaim.WAIT, "who looked before that claim"
    candidates.finish(engine, claim, running.id, State.DIVERGED, reason="nan")
    studies.set_control(engine, study.id, Control.STOP)
    assert leases.close_exhausted(engine, study.id) is NoClaim.STOPPED
    studies.set_control(engine, study.id, Control.RUN)
    assert studies.get(engine, study.id) == replace(study, finish={"finals": 1})
    closed = {"finals": 1, studies.CLOSED_FROM: 9, studies.EXHAUSTED: True}
    for _ in range(2):  # two workers
        assert leases.close_exhausted(engine, study.id) is NoClaim.DONE
        assert studies.get(engine, study.id) == replace(study, trials=1, finish=closed)
    assert ask(engine, study) is NoClaim.DONE


def test_a_late_result_is_refused_and_changes_nothing(engine: Engine) -> None:
    study = make_study(engine)
    claim, candidate = start(engine, study, 0)
    leases.evict(engine, study.id, claim.worker)
    start(engine, study, 1, worker=claim.worker)  # the same worker again, with another claim
    before = everything(engine)
    late: list[Callable[[], object]] = [
        lambda: candidates.propose(engine, claim, proposal(2)),
        lambda: candidates.save_epoch(engine, claim, candidate.id, epoch(1)),
        lambda: candidates.finish(engine, claim, candidate.id, State.COMPLETED, outcome=outcome(0.5)),
        lambda: leases.renew(engine, claim, LEASE_SECONDS),
    ]
    for call in late:
        with pytest.raises(LeaseLostError, match="worker 'one'"):
            call()
    leases.release(engine, claim)
    assert everything(engine) == before


def test_a_claim_cannot_finish_the_candidate_of_another(engine: Engine) -> None:
    study = make_study(engine)
    _claim, candidate = start(engine, study, 0)
    other = take(engine, study, "two")
    before = everything(engine)
    with pytest.raises(LeaseLostError):
        candidates.finish(engine, other, candidate.id, State.COMPLETED, outcome=outcome(0.5))
    assert everything(engine) == before


def test_who_gives_a_claim_back_stays_with_the_study_and_the_dead_do_not(engine: Engine) -> None:
    study = make_study(engine)
    names = ("lives", "evicted", "silent")
    claims = {name: start(engine, study, number, name)[0] for number, name in enumerate(names)}
    for name in names:
        workers.announce(
            engine, study.id, name, host="h", pid=1, state=workers.Doing.WORKING, lease_seconds=60.0
        )
    leases.release(engine, claims["lives"])
    leases.release(engine, claims["lives"])  # its answer was lost
    leases.evict(engine, study.id, "evicted")
    expire(engine, claims["silent"])
    leases.reap(engine, study.id)
    assert [one.name for one in workers.of_study(engine, study.id)] == ["lives"]
    assert leases.running(engine, study.id) == []


def test_a_token_is_never_handed_out_twice(engine: Engine) -> None:
    study = make_study(engine)
    tokens = []
    for _ in range(3):
        claim = take(engine, study)
        tokens.append(claim.token)
        leases.release(engine, claim)
    assert len(set(tokens)) == 3


def test_the_display_sees_who_is_at_what(engine: Engine) -> None:
    study = make_study(engine)
    claim, candidate = start(engine, study, 0, worker="one")
    take(engine, study, "two")
    (first, second) = leases.running(engine, study.id)
    assert (first.worker, first.device, first.number, first.parameters) == ("one", "cpu", 0, 1_000)
    assert (first.epoch, first.accuracy) == (None, None)
    assert (second.worker, second.number) == ("two", None)
    assert second.since >= 0
    for number in (1, 2):
        candidates.save_epoch(engine, claim, candidate.id, epoch(number, accuracy=number / 4))
    assert [(one.epoch, one.accuracy) for one in leases.running(engine, study.id)] == [(2, 0.5), (None, None)]
