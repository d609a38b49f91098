"""Known networks come first in a search, exactly as they are, and only those that the search may have."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from command import run
from ledger_samples import proposal, take
from worker_samples import FakeTraining, make_config, make_context, make_study

from search.commands import launch_session
from search.launcher import enqueue, prepare
from search.launcher.enqueue import Starters
from search.launcher.prepare import Flags
from search.machine.signals import Interrupts
from search.optuna_adapter import storage, study as optuna_study
from search.study.config import SamplingName, StudyConfig
from search.study.finish_plan import make_plan
from search.worker import rung_training, trial as worker_trial
from search.worker.context import WorkerContext
from space import baselines, published
from space.architecture import Architecture
from space.budget import Budget
from space.errors import UsageError
from space.sampling import propose
from space.space import Task
from storage import candidates, leases, studies
from storage.row_types import State
from storage.studies import Study

NETWORK = {
    "channels": 1,
    "image_size": 8,
    "stem": {"width": 16},
    "stages": [{"blocks": 1, "width": 16}, {"blocks": 2, "width": 32, "stride": 2}],
}

TINY = {
    "channels": 1,
    "image_size": 8,
    "stem": {"width": 8},
    "stages": [{"blocks": 1, "width": 8}, {"blocks": 1, "width": 16, "stride": 2}],
}


@pytest.fixture
def flags(tmp_path: Path, sqlite_url: str) -> Flags:
    return Flags(sqlite_url, tmp_path / "data", trials=3, data="digits", max_parameters=50_000, study="s")


@pytest.fixture
def network(tmp_path: Path) -> Path:
    path = tmp_path / "net.json"
    path.write_text(json.dumps(NETWORK))
    return path


def cifar(config: StudyConfig, limit: int) -> StudyConfig:
    """The same configuration for colour images of 32 pixels."""
    task = Task(channels=3, image_size=32, classes=10)
    return config.model_copy(update={"task": task, "budget": Budget(limit)})


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_the_first_trial_is_the_network_that_was_named(flags: Flags, network: Path) -> None:
    optuna_study.quiet()
    engine, record, config = prepare.prepare(flags)
    found = enqueue.starters([str(network)], config, flags.storage)
    assert enqueue.enqueue(engine, flags.storage, record, config, found) == 1
    assert enqueue.enqueue(engine, flags.storage, record, config, found) == 0, "once is enough"
    with optuna_study.open_study(flags.storage, record.name, config) as opened:
        trial = opened.ask()
        made = propose(config.space, config.budget, config.task, trial)
        assert trial.user_attrs["started_from"] == "net"
    engine.dispose()
    assert made.fingerprint == Architecture.parse(NETWORK).fingerprint


def test_published_networks_that_fit_come_first_the_best_of_them_before(flags: Flags) -> None:
    config = cifar(prepare.make_config(flags, None), 5_000_000)
    found = enqueue.starters(["published"], config, flags.storage)
    able = [starter for starter in found if starter.answers]
    assert able[0].name == "published:001-final"
    assert len({starter.fingerprint for starter in found}) == len(found)
    assert len(found) == len({entry.architecture.fingerprint for entry in published.everything()})
    for starter in able:
        entry = published.find(starter.name.removeprefix("published:"))
        assert entry.parameters <= 5_000_000
    left = {starter.name: starter.reason for starter in found if not starter.answers}
    assert "6,173,962 over 5,000,000" in left["published:001-resnet18"]
    assert any(
        line.startswith("left out published:001-resnet18: 11,173,962")
        for line in enqueue.summary_of(Starters(found))
    )


def test_a_network_for_other_images_is_refused_where_it_was_named_itself(flags: Flags) -> None:
    config = prepare.make_config(flags, None)
    with pytest.raises(UsageError, match="--start-from published:001-final: channels: 3"):
        enqueue.starters(["published:001-final"], config, flags.storage)
    assert not any(starter.answers for starter in enqueue.starters(["published"], config, flags.storage))


def test_a_dry_run_says_what_would_come_first(
    capsys: pytest.CaptureFixture[str], flags: Flags, network: Path, tmp_path: Path
) -> None:
    common = ("launch", "--trials", 3, "--data", "digits", "--data-dir", flags.data_dir, "--dry-run")
    more = ("--storage", flags.storage, "--max-params", 50_000, "--start-from", network)
    result = run(capsys, *common, *more, "--start-from", "published")
    assert result.code == 0
    assert "start    1 known networks come first: net" in result.err
    assert "more: channels: 3, where the data have 1" in result.err
    assert not (tmp_path / "search.db").exists()


def first_guesses(plan: StudyConfig, trials: int) -> list[str | None]:
    starters = enqueue.with_baselines([], plan, trials)
    return [starter.baseline for starter in starters.found if starter.answers and not starter.variant]


SMALL_ONES = ["[3,3,3] at full budget", "[2,2,2] at full budget", "[1,1,1] at full budget",
              "[2,2,2] at half the budget", "[1,1,1] at half the budget"]  # fmt: skip


def test_at_most_a_third_of_the_trials_are_baselines_those_of_the_full_budget_first(flags: Flags) -> None:
    plan = prepare.make_config(replace(flags, max_parameters=100_000), None)
    assert first_guesses(plan, 100) == SMALL_ONES
    for trials in (2, 3, 5, 6, 9, 14, 15):
        assert first_guesses(plan, trials) == SMALL_ONES[: trials // 3]


def test_at_most_a_sixth_are_variants_which_are_no_baselines_and_come_after_those_of_the_full_budget(
    flags: Flags,
) -> None:
    """A search of a few minutes ends before it comes to all of them: those that have won are tried first."""
    plan = prepare.make_config(replace(flags, max_parameters=100_000), None)
    varied = [f"{name}, pre-activated, padded shortcuts, gelu" for name in SMALL_ONES[:3]]
    for trials, there in ((5, 0), (6, 1), (12, 2), (18, 3), (100, 3)):
        starters = enqueue.with_baselines([], plan, trials)
        able = [one for one in starters.found if one.answers]
        assert [one.name for one in able if one.variant] == varied[:there]
        full = SMALL_ONES[: min(3, trials // 3)]
        assert [one.name for one in able] == [*full, *varied[:there], *SMALL_ONES[3 : trials // 3]]
        assert not any(one.baseline for one in able if one.variant)
    said = enqueue.summary_of(enqueue.with_baselines([], plan, 6))
    assert said[1] == (
        "then variants of them that are no baselines: [3,3,3] at full budget, pre-activated, padded"
        " shortcuts, gelu (width 9, 85,807 parameters)"
    )
    first, then, *_ = enqueue.summary_of(enqueue.with_baselines([], plan, 100))
    assert "half the budget" not in first and then.count("gelu") == 3
    assert then.endswith(
        "; then the other baselines: [2,2,2] at half the budget (width 8, 44,226 parameters), [1,1,1] at half"
        " the budget (width 12, 44,014 parameters)"
    )


def started_from(
    network: Architecture, plan: StudyConfig, storage: str, folder: Path
) -> list[enqueue.Starter]:
    """The network as somebody names it, in a file called mine."""
    (folder / "mine.json").write_text(json.dumps(network.document()))
    return enqueue.starters([str(folder / "mine.json")], plan, storage)


def test_a_variant_that_is_known_already_is_tried_once(flags: Flags, tmp_path: Path) -> None:
    plan = prepare.make_config(flags, None)
    first = baselines.variants(plan.space, plan.budget, plan.task)[0]
    known = started_from(first.architecture, plan, flags.storage, tmp_path)
    found = enqueue.with_baselines(known, plan, 100).found
    assert [one.fingerprint for one in found].count(first.architecture.fingerprint) == 1


def test_the_opening_lines_say_which_baselines_there_are_and_which_there_are_not(flags: Flags) -> None:
    plan = prepare.make_config(flags, None)
    assert enqueue.summary_of(enqueue.with_baselines([], plan, 6)) == [
        "baselines are trained first, to the end (--no-baselines leaves them out): [2,2,2] at full budget"
        " (width 8, 44,226 parameters), [1,1,1] at full budget (width 12, 44,014 parameters); 1 more would be"
        " over a third of the trials",
        "then variants of them that are no baselines: [2,2,2] at full budget, pre-activated, padded"
        " shortcuts, gelu (width 8, 43,506 parameters)",
        "left out [3,3,3] at full budget, [3,3,3] at half the budget: even 8 channels wide it uses 137% of"
        " the budget",
        "left out [2,2,2] at half the budget: even 8 channels wide it uses 88% of the budget",
    ]
    assert enqueue.summary_of(enqueue.with_baselines([], plan, 2))[0] == (
        "no baseline: of so few trials one would be over a third (there are 3)"
    )


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("sampling", ["fit", pytest.param("reject", marks=pytest.mark.thorough)])
def test_a_baseline_is_proposed_exactly_and_marked(flags: Flags, sampling: SamplingName) -> None:
    optuna_study.quiet()
    engine, record, plan = prepare.prepare(replace(flags, sampling=sampling))
    starters = enqueue.with_baselines([], plan, 9)
    assert enqueue.enqueue(engine, flags.storage, record, plan, starters.found) == 4
    assert enqueue.enqueue(engine, flags.storage, record, plan, starters.found) == 0
    marks = [{"baseline": one.baseline} for one in starters.found[:2]]
    marks += [{"started_from": "[2,2,2] at full budget, pre-activated, padded shortcuts, gelu"}]
    marks += [{"baseline": "[1,1,1] at half the budget"}]
    with optuna_study.open_study(flags.storage, record.name, plan) as opened:
        for starter, mark in zip(starters.found[:4], marks, strict=True):
            trial = opened.ask()
            assert trial.user_attrs == mark
            assert plan.propose(trial).fingerprint == starter.fingerprint
    engine.dispose()


def test_where_the_width_is_drawn_a_network_is_known_whatever_share_of_the_budget_it_uses(
    flags: Flags, network: Path, tmp_path: Path
) -> None:
    """It has 5,122 parameters of 50,000; a proposal of the default space uses a half of them at least."""
    (tmp_path / "small.json").write_text(json.dumps(TINY))
    plan = prepare.make_config(replace(flags, sampling="reject"), None)
    tiny, named = (str(tmp_path / "small.json"), str(network))
    assert all(starter.answers for starter in enqueue.starters([tiny, named], plan, flags.storage))
    with pytest.raises(UsageError, match=r"--start-from small: budget_share: it uses"):
        enqueue.starters([tiny], plan.model_copy(update={"sampling": "fit"}), flags.storage)
    too_small = plan.model_copy(update={"budget": Budget(2_000)})
    with pytest.raises(UsageError, match=r"--start-from small: .* parameters, .* over 2,000"):
        enqueue.starters([tiny], too_small, flags.storage)


@pytest.mark.parametrize("width", ["low = 8\nhigh = 64", "low = 16\nhigh = 16"])
def test_a_space_that_fixes_the_share_of_the_budget_has_baselines_where_the_width_is_drawn(
    flags: Flags, tmp_path: Path, width: str
) -> None:
    (tmp_path / "space.toml").write_text(
        f"depth = [2]\nbudget_share = {{ low = 1.0, high = 1.0 }}\n[width]\n{width}\n"
        "[stage]\nblocks = [1]\n[baselines]\nblocks = [[1, 1]]\nbudget = [1.0]\n"
    )
    plan = prepare.make_config(replace(flags, sampling="reject", space=tmp_path / "space.toml"), None)
    (guess,) = [one for one in enqueue.with_baselines([], plan, 9).found if one.answers is not None]
    assert guess.answers == ({} if "16" in width else {"width": 24})
    assert guess.name in enqueue.summary_of(Starters([guess]))[0]


def test_a_known_network_that_is_a_baseline_is_tried_once_and_is_both(flags: Flags, tmp_path: Path) -> None:
    plan = prepare.make_config(flags, None)
    guess = baselines.baselines(plan.space, plan.budget, plan.task)[0]
    known = started_from(guess.architecture, plan, flags.storage, tmp_path)
    found = enqueue.with_baselines(known, plan, 3).found
    assert [(one.name, one.known, one.baseline) for one in found if one.answers] == [
        ("mine", True, "[2,2,2] at full budget"),
        ("[1,1,1] at full budget", False, "[1,1,1] at full budget"),
    ]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_new_study_has_its_baselines_and_one_that_was_begun_gets_none(flags: Flags) -> None:
    optuna_study.quiet()
    engine, record, plan = prepare.prepare(flags)
    assert not any(one.baseline for one in launch_session.first_trials(
        replace(flags, baselines=False), plan, record, []).found)  # fmt: skip
    starters = launch_session.first_trials(flags, plan, record, [])
    enqueue.enqueue(engine, flags.storage, record, plan, starters.found)
    assert launch_session.first_trials(flags, plan, record, []) == starters, "nothing was proposed so far"
    claim = leases.claim(engine, record.id, "one", 60.0)
    assert isinstance(claim, leases.Claim)
    candidates.propose(engine, claim, proposal(0))
    assert launch_session.first_trials(flags, plan, record, []) == Starters([])
    engine.dispose()


class Searches(Exception):
    """The launch has said all before its search begins."""


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_new_study_has_its_baselines_though_a_worker_that_follows_was_faster(
    flags: Flags, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sees the study as soon as it is made, and proposes a network before the launch has queued any."""
    prepared = prepare.prepare

    def followed(flags: Flags) -> object:
        made = prepared(flags)
        claim = leases.claim(made[0], made[1].id, "follows", 60.0)
        assert isinstance(claim, leases.Claim)
        candidates.propose(made[0], claim, proposal(0))
        return made

    def search(*_: object) -> None:
        raise Searches

    monkeypatch.setattr(prepare, "prepare", followed)
    monkeypatch.setattr(launch_session, "_search", search)
    monkeypatch.setattr(Interrupts, "listen", lambda _: None)
    queued = []
    for _ in range(2):
        with pytest.raises(Searches):
            launch_session.launch(flags, "0", "none", None, None, dry_run=False)
        monkeypatch.setattr(prepare, "prepare", prepared)
        with storage.open_storage(flags.storage) as stored:
            study = optuna.load_study(study_name="s", storage=stored)
            queued.append([one.user_attrs["baseline"] for one in study.get_trials(deepcopy=False)])
    assert len(queued[0]) == 1, "a third of the trials"
    assert queued[1] == queued[0], "the next launch goes on"


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_network_that_is_enqueued_while_a_search_runs_is_proposed_next(
    sqlite_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config()
    mine = baselines.baselines(config.space, config.budget, config.task)[0].architecture
    (tmp_path / "mine.json").write_text(json.dumps(mine.document()))
    engine, record = make_study(sqlite_url, config, 4)
    ask = ("enqueue", "bench", tmp_path / "mine.json", "--storage", sqlite_url)
    train = FakeTraining()
    with optuna_study.open_study(sqlite_url, record.name, config) as opened:
        context = make_context(opened, engine, record, train, config, tmp_path)
        for _ in range(2):
            worker_trial.run(context, take(engine, record))
        said = run(capsys, *ask)
        assert (said.code, said.out) == (0, "mine is proposed next in bench\n")
        assert run(capsys, *ask).out == "mine is no news to bench: waiting in it\n"
        worker_trial.run(context, take(engine, record))
    engine.dispose()
    assert [name for name, _ in train.asked].index(mine.fingerprint) == 2
    assert run(capsys, *ask).out == "mine is no news to bench: trial 2 of it, completed\n"


def test_a_network_that_the_search_cannot_make_is_refused_with_the_reason(
    sqlite_url: str, network: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine, _ = make_study(sqlite_url, make_config(), 4)
    engine.dispose()
    refused = run(capsys, "enqueue", "bench", network, "--storage", sqlite_url)
    assert refused.code == 2
    assert refused.one_line.startswith("search: net: channels: 1, where the data have 3")


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_trial_of_another_study_is_enqueued_and_a_study_that_is_done_says_what_trains_it(
    sqlite_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config()
    for name in ("alpha", "beta"):
        engine, record = make_study(sqlite_url, config.model_copy(update={"seed": len(name)}), 1, name)
        with optuna_study.open_study(sqlite_url, record.name, config) as opened:
            context = make_context(opened, engine, record, FakeTraining(), record_config(record), tmp_path)
            worker_trial.run(context, take(engine, record))
        engine.dispose()
    said = run(capsys, "enqueue", "beta", "alpha:0", "--storage", sqlite_url).out
    more = f"`search launch beta --trials 2 --storage {sqlite_url}` trains it"
    assert said == f"alpha:0 is proposed next in beta, which has its 1: {more}\n"


@contextmanager
def done(url: str, folder: Path, trained: int = 2, trials: int = 9) -> Iterator[WorkerContext]:
    """A study with a second stage that has trained so many of its trials, and mine.json, which it has not."""
    config = make_config()
    known = baselines.baselines(config.space, config.budget, config.task)[0].architecture
    (folder / "mine.json").write_text(json.dumps(known.document()))
    engine, record = make_study(url, config, trials)
    studies.set_finish(engine, record.id, make_plan(config, None, epochs=13).document())
    with optuna_study.open_study(url, record.name, config) as opened:
        context = make_context(opened, engine, record, FakeTraining(), config, folder)
        for _ in range(trained):
            worker_trial.run(context, take(engine, record))
        yield context
    engine.dispose()


def mine(folder: Path) -> str:
    """The fingerprint of mine.json."""
    return Architecture.parse(json.loads((folder / "mine.json").read_text())).fingerprint


def launched(context: WorkerContext, url: str, said: str) -> Study:
    """The study after the launch that was printed."""
    (number,) = re.findall(r"`search launch bench --trials (\d+) --storage \S+` trains it", said)
    flags = prepare.with_trials(Flags(url, Path(), int(number), "bench"))
    record = studies.find(context.engine, "bench")
    plan = prepare.plan_of(flags, record, context.config)
    prepare._go_on(context.engine, record, flags)
    return prepare._planned(context.engine, record, plan)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_network_for_an_exhausted_space_is_trained_by_the_printed_command_while_its_finals_run(
    sqlite_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with done(sqlite_url, tmp_path) as context:
        assert leases.close_exhausted(context.engine, context.study_id) is leases.NoClaim.DONE
        said = run(capsys, "enqueue", "bench", tmp_path / "mine.json", "--storage", sqlite_url).out
        more = f"`search launch bench --trials 10 --storage {sqlite_url}` trains it"
        assert said == f"mine is proposed next in bench, which has its 2: {more}\n"
        record = launched(context, sqlite_url, said)
        assert record.trials == 10 and record.finish and studies.CLOSED_FROM not in record.finish
        worker_trial.run(context, take(context.engine, record))
        last = candidates.find(context.engine, record.id, 2)
        assert (last.fingerprint, last.state) == (mine(tmp_path), State.COMPLETED)
        assert leases.close_exhausted(context.engine, record.id) is leases.NoClaim.DONE
        assert studies.get(context.engine, record.id).trials == 3, "and comes into the second stage"


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_network_for_trials_that_were_closed_in_time_is_trained_once_the_second_stage_is_over(
    sqlite_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A launch to more than were asked for would train all that were given up, too."""
    with done(sqlite_url, tmp_path) as context:
        engine, study_id = context.engine, context.study_id
        plan = make_plan(context.config, None, epochs=13)
        closed = plan.with_wanted(plan, 9)
        assert studies.shorten(engine, study_id, closed.document(), close=True)
        said = run(capsys, "enqueue", "bench", tmp_path / "mine.json", "--storage", sqlite_url).out
        more = (
            f"`search launch bench --trials 3 --storage {sqlite_url}` trains it once its second stage is over"
        )
        assert said == f"mine is proposed next in bench, which has its 2: {more}\n"
        assert launched(context, sqlite_url, said).trials == 2, "it goes on with that"
        whole = make_plan(context.config, None, epochs=13, first=0, finalists=1, seeds=1).document()
        studies.set_finish(engine, study_id, {**whole, studies.CLOSED_FROM: 9})
        while not isinstance(rung_training.run_next(context), leases.NoClaim):
            pass
        assert launched(context, sqlite_url, said).trials == 3


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_network_that_comes_while_the_last_trials_run_is_not_said_to_be_trained_by_them(
    sqlite_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with done(sqlite_url, tmp_path, trained=2, trials=3) as context:
        ask = ("enqueue", "bench", tmp_path / "mine.json", "--storage", sqlite_url)
        claim = take(context.engine, studies.find(context.engine, "bench"))
        candidates.propose(context.engine, claim, proposal(7))
        said = run(capsys, *ask).out
        assert said == (
            "mine is proposed next in bench, whose last of 3 trials are under way:"
            f" `search launch bench --trials 4 --storage {sqlite_url}` trains it\n"
        )
        assert launched(context, sqlite_url, said).trials == 4


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_network_is_proposed_by_who_has_claimed_the_last_trial_and_chosen_none_for_it(
    sqlite_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with done(sqlite_url, tmp_path, trained=2, trials=3) as context:
        claim = take(context.engine, studies.find(context.engine, "bench"))
        said = run(capsys, "enqueue", "bench", tmp_path / "mine.json", "--storage", sqlite_url).out
        assert said == "mine is proposed next in bench\n"
        worker_trial.run(context, claim)
        assert candidates.find(context.engine, context.study_id, 2).fingerprint == mine(tmp_path)


def record_config(record: Study) -> StudyConfig:
    return StudyConfig.from_record(record.settings)
