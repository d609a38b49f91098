"""Known networks come first in a search, exactly as they are, and only those that the search may have."""

import json
from pathlib import Path

import pytest
from command import run

from search.launcher import enqueue, prepare
from search.launcher.prepare import Flags
from search.optuna_adapter import study as optuna_study
from search.study.config import StudyConfig
from space import published
from space.architecture import Architecture
from space.budget import Budget
from space.errors import UsageError
from space.sampling import propose
from space.space import Task

NETWORK = {
    "channels": 1,
    "image_size": 8,
    "stem": {"width": 16},
    "stages": [{"blocks": 1, "width": 16}, {"blocks": 2, "width": 32, "stride": 2}],
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
        line.startswith("left out published:001-resnet18: 11,173,962") for line in enqueue.summary_of(found)
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
