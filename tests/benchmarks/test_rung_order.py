"""The simulated ends of rungs: by hand, and the order of the product over the table of real trainings."""

from pathlib import Path

import pytest

from benchmarks import rung_order
from benchmarks.simulated import table

TABLE = Path(rung_order.__file__).parent / "curves" / "fashion-mnist.json.gz"


def test_a_rung_ends_with_its_last_training() -> None:
    assert rung_order.ends([1, 1, 1, 3], 2) == 4
    assert rung_order.ends([3, 1, 1, 1], 2) == 3
    assert rung_order.ends([3, 1, 1, 1], 1) == 6


@pytest.mark.parametrize("size", rung_order.SIZES)
def test_of_real_trainings_the_slowest_first_ends_earlier_but_not_with_one_worker(size: str) -> None:
    entries = table.load(TABLE).entries
    assert rung_order.earlier(entries, size, 3, searches=40) > 0.02
    assert rung_order.earlier(entries, size, 1, searches=5) == pytest.approx(0)
