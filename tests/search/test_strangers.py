"""Documents from strangers are met by a clean error or none, whatever they hold; nothing of them is run."""

import random
from pathlib import Path

import pytest
import strangers
from examples import examples
from hypothesis import HealthCheck, given, settings, strategies as st
from strangers import Door


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> list[Door]:
    return strangers.doors(tmp_path_factory.mktemp("true-documents"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("place")


@settings(
    max_examples=examples(1_000),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 2**64))
def test_a_document_from_a_stranger_is_met_cleanly(seed: int, doors: list[Door], place: Path) -> None:
    chance = random.Random(seed)
    door = chance.choice(doors)
    door.enter(door.input(chance), place)


def test_a_true_document_passes_its_door(doors: list[Door], place: Path) -> None:
    """Else the test above would see nothing but refusals at the first look."""
    for door in doors:
        if door.name not in ("checkpoint", "result of a training"):  # those need what belongs to them
            door.open(door.seed, place)
