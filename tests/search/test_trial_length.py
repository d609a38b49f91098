"""The default of --epochs in little time: from numbers alone, told with its reason, and never longer."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from search.launcher import prepare
from search.launcher.prepare import Flags
from search.study import compute_limit
from search.study.trial_length import FEW, LEAST, SHARE, TrialLength, in_time

EPOCH = compute_limit.STEP * 10_000 * SHARE * 10_000_000 / compute_limit.CORE  # seconds of 10,000 images


def test_where_few_trials_of_the_usual_length_have_time_nothing_changes() -> None:
    assert in_time(8, 10_000, 10_000_000, 8 * EPOCH * FEW, trials=1_000) is None
    assert in_time(8, 10_000, 10_000_000, 8 * EPOCH * 10, trials=10) is None


def test_in_less_time_trials_are_as_long_as_few_of_them_may_be() -> None:
    found = in_time(8, 10_000, 10_000_000, 8 * EPOCH * FEW / 2, trials=1_000)
    assert found and (found.epochs, found.usual, found.trials) == (4, 8, FEW)
    assert found.note == "--epochs 4 is the default in so little time, for about 40 trials on these cores;" \
        " --epochs 8 is usual"  # fmt: skip


def test_the_length_is_what_searches_have_had_ever_since() -> None:
    """In seconds of a real core, not of the constants above: the same command is the same search."""
    assert in_time(8, 45_000, 10_000_000, 3_600.0, trials=1_000) == TrialLength(2, 8, 53)
    assert in_time(6, 1_150, 4_000_000, 60.0, trials=1_000) == TrialLength(4, 6, 43)


def test_a_pruner_hears_something() -> None:
    found = in_time(8, 10_000, 10_000_000, EPOCH, trials=1_000)
    assert found and (found.epochs, found.trials) == (LEAST, 1)


@given(
    st.integers(1, 50),
    st.integers(1, 10**6),
    st.integers(1, 10**10),
    st.floats(1, 10**6),
    st.integers(1, 10**4),
)
def test_it_is_between_the_least_and_the_usual(
    usual: int, images: int, macs: int, seconds: float, trials: int
) -> None:
    found = in_time(usual, images, macs, seconds, trials)
    assert found is None or (LEAST <= found.epochs < usual and 1 <= found.trials <= trials)
    less = in_time(usual, images, macs, seconds / 2, trials)
    assert (less.epochs if less else usual) <= (found.epochs if found else usual)


@pytest.fixture
def flags(tmp_path: Path, digits: Path) -> Flags:
    """Of a launch on one core, with time for few trials."""
    url = f"sqlite:///{tmp_path / 'study.db'}"
    place = {"on_cpu": True, "workers": 1}
    return Flags(url, digits, 1_000, "night", data="digits", max_macs=4_000_000, timeout=30.0, **place)  # type: ignore[arg-type]


def epochs(flags: Flags) -> int:
    return prepare.make_config(flags, None).recipe.epochs


def test_a_limit_of_time_makes_the_trials_of_a_new_study_shorter(flags: Flags) -> None:
    assert epochs(replace(flags, timeout=None)) == 6
    assert epochs(flags) == 2
    assert epochs(replace(flags, timeout=None, max_gpu_hours=30 / 3600)) == 2
    assert 2 < epochs(replace(flags, timeout=60.0)) < 6
    assert epochs(replace(flags, timeout=60.0, workers=2)) == 6
    assert epochs(replace(flags, timeout=60.0, workers=2, finish=True)) < 6  # half of it is for the finals
    assert epochs(replace(flags, trials=3)) == 6


def test_what_was_said_or_cannot_be_reckoned_stays(flags: Flags, tmp_path: Path) -> None:
    assert epochs(replace(flags, epochs=5)) == 5
    (tmp_path / "recipe.toml").write_text("epochs = 7")
    assert epochs(replace(flags, recipe=tmp_path / "recipe.toml")) == 7
    (tmp_path / "recipe.toml").write_text("crop_padding = 0")
    assert epochs(replace(flags, recipe=tmp_path / "recipe.toml")) == 2
    assert epochs(replace(flags, on_cpu=False)) == 6  # a GPU, whose pace is not known
    assert epochs(replace(flags, max_macs=compute_limit.UNLIMITED)) == 6


def test_a_study_that_exists_keeps_its_epochs(flags: Flags) -> None:
    stored = prepare.make_config(replace(flags, timeout=None), None)
    assert prepare.make_config(flags, stored).recipe.epochs == 6
