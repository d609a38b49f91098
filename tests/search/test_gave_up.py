"""A search of which nothing is trained any more ends, and says why: 20 networks in a row came to nothing."""

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path

import pytest
from command import fake_training, finish, run, start
from ledger_samples import make_study, outcome, proposal, take
from sqlalchemy import Engine
from worker_samples import FakeTraining, make_config, make_context, make_study as make_both

from search.machine.signals import ShutdownRequest
from search.optuna_adapter import study as optuna_study
from search.study import gave_up
from search.worker import worker as workers
from space.architecture import Architecture
from space.errors import DivergedError, GaveUpError
from storage import candidates, leases, studies
from storage.row_types import GIVE_UP_AFTER, MAX_ATTEMPTS, State
from storage.studies import Control, Study

NAN = "training loss is nan in epoch 1"


def come_to(engine: Engine, study: Study, states: Iterable[State], first: int = 0, reason: str = NAN) -> None:
    """Networks of a study that end so, one after another."""
    for number, state in enumerate(states, first):
        claim = take(engine, study)
        made = candidates.propose(engine, claim, proposal(number))
        trained = outcome(0.5) if state == State.COMPLETED else None
        candidates.finish(engine, claim, made.id, state, reason=reason, outcome=trained)


def order(engine: Engine, study: Study) -> Control:
    return studies.find(engine, study.name).order


def test_twenty_networks_in_a_row_that_diverge_end_a_search(engine: Engine) -> None:
    study = make_study(engine, trials=100)
    come_to(engine, study, [State.DIVERGED] * 19)
    assert order(engine, study) == Control.RUN
    come_to(engine, study, [State.DIVERGED], first=19)
    assert order(engine, study) == Control.GAVE_UP
    assert len(candidates.untrained_in_a_row(engine, study.id)) == GIVE_UP_AFTER


def test_a_network_that_is_trained_between_begins_the_count_anew(engine: Engine) -> None:
    study = make_study(engine, trials=100)
    come_to(engine, study, [State.DIVERGED] * 19 + [State.COMPLETED] + [State.TIMED_OUT] * 19)
    assert order(engine, study) == Control.RUN
    come_to(engine, study, [State.OUT_OF_MEMORY], first=39)
    assert order(engine, study) == Control.GAVE_UP


def test_a_search_that_is_launched_again_goes_on_for_another_twenty(engine: Engine) -> None:
    study = make_study(engine, trials=100)
    come_to(engine, study, [State.DIVERGED] * 20)
    studies.set_control(engine, study.id, Control.RUN)
    come_to(engine, study, [State.DIVERGED] * 19, first=20)
    assert order(engine, study) == Control.RUN
    come_to(engine, study, [State.DIVERGED], first=39)
    assert order(engine, study) == Control.GAVE_UP


def test_an_order_that_somebody_gave_stays(engine: Engine) -> None:
    study = make_study(engine, trials=100)
    come_to(engine, study, [State.DIVERGED] * 19)
    claim = take(engine, study)
    made = candidates.propose(engine, claim, proposal(19))
    studies.set_control(engine, study.id, Control.PAUSE)
    candidates.finish(engine, claim, made.id, State.DIVERGED, reason=NAN)
    assert order(engine, study) == Control.PAUSE


def test_a_network_whose_workers_died_counts_once_after_its_last_attempt(engine: Engine) -> None:
    study = make_study(engine, trials=100)
    come_to(engine, study, [State.FAILED] * 19)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        assert order(engine, study) == Control.RUN
        claim = take(engine, study)
        one = proposal(19 + attempt, fingerprint="deadly")
        candidates.propose(engine, claim, type(one)(**{**vars(one), "attempt": attempt}))
        leases.evict(engine, study.id, "one")
    assert order(engine, study) == Control.GAVE_UP
    assert "19 failed, 1 lost their worker" in line(engine, study)


def test_proposals_over_the_budget_have_a_bound_of_their_own(engine: Engine) -> None:
    study = make_study(engine, trials=100)
    come_to(engine, study, [State.DIVERGED] * 10)
    claim = take(engine, study)
    for number in range(10, 40):
        candidates.propose(engine, claim, proposal(number, over_budget="too large"))
    assert order(engine, study) == Control.RUN
    made = candidates.propose(engine, claim, proposal(40))
    candidates.finish(engine, claim, made.id, State.DIVERGED, reason=NAN)
    come_to(engine, study, [State.DIVERGED] * 9, first=41)
    assert order(engine, study) == Control.GAVE_UP


def line(engine: Engine, study: Study) -> str:
    return gave_up.reason(candidates.untrained_in_a_row(engine, study.id), study.name)


@pytest.mark.parametrize(
    ("state", "reason", "said"),
    [
        (
            State.DIVERGED,
            NAN,
            f"20 networks in a row diverged (the last: {NAN}): lower learning_rate (--recipe) in a new study",
        ),
        (State.TIMED_OUT, "not done after 60 s, --trial-timeout", ": raise --trial-timeout"),
        (State.TIMED_OUT, "no batch for 300 s, --stall-timeout", ": raise --stall-timeout"),
        (State.OUT_OF_MEMORY, "out of memory at batch 128", "20 networks in a row ran out of memory"),
        (State.FAILED, "Traceback\n  of much\nValueError: x", "failed (the last: ValueError: x)"),
        (State.FAILED, "x", ": `search trials bench --state failed` has all reasons"),
    ],
)
def test_the_line_names_the_reason_and_the_flag_to_change(
    sqlite_url: str, state: State, reason: str, said: str
) -> None:
    engine, study = make_both(sqlite_url, make_config(), 100)
    come_to(engine, study, [state] * 20, reason=reason)
    assert said in line(engine, study)
    assert "\n" not in line(engine, study)
    engine.dispose()


def diverge(_: Architecture) -> None:
    raise DivergedError(NAN)


def test_every_worker_ends_by_the_same_line(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config()
    engine, record = make_both(sqlite_url, config, 100)
    train = FakeTraining(before=diverge)
    with optuna_study.open_study(sqlite_url, record.name, config) as opened:
        context = make_context(opened, engine, record, train, config, tmp_path)
        monkeypatch.setattr(workers, "open_context", lambda *_: nullcontext(context))
        said = set()
        for _ in range(3):  # the one that trained the last of them, and two that come later
            with pytest.raises(GaveUpError) as ended:
                workers.work(context.options, engine, record, ShutdownRequest(1.0))
            said.add(str(ended.value))
    assert len(train.asked) == 20
    assert said == {line(engine, record)}
    engine.dispose()


def test_status_says_why_a_search_ended_by_itself(
    sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    engine, study = make_both(sqlite_url, make_config(), 100)
    come_to(engine, study, [State.DIVERGED] * 20)
    engine.dispose()
    said = run(capsys, "status", "--storage", sqlite_url).out
    assert "20 networks in a row diverged" in said
    onward = f"`search resume bench --storage {sqlite_url}` goes on"
    assert f"learning_rate (--recipe) in a new study; {onward}" in said


@pytest.mark.thorough  # the tests above do it to the ledger
@pytest.mark.slow
def test_a_launch_that_trains_nothing_ends_with_code_4_and_again_with_another_20(
    tmp_path: Path, digits: Path, sqlite_url: str, check: Callable[..., object]
) -> None:
    fake = fake_training(tmp_path / "training", seconds=0.0)
    orders = '{"batches": 1, "seconds": 0, "acts": [{"act": "diverge", "share": [0.0, 1.0]}]}'
    (tmp_path / "training" / "orders.json").write_text(orders)
    flags = ("--data", "digits", "--gpus", "none", "--workers", 2, "--epochs", 1, "--max-macs", "300k",
             "--no-baselines", "--storage", sqlite_url, "--data-dir", digits)  # fmt: skip
    first = finish(start("launch", "night", "--trials", 3, *flags, cwd=tmp_path, **fake))
    assert first.code == 4, first.err
    assert "networks in a row diverged" in first.err
    assert "learning_rate" in first.err
    again = finish(start("launch", "night", "--trials", 3, *flags, cwd=tmp_path, **fake))
    assert again.code == 4
    assert "goes on for 20 more at most" in again.err
