"""Values of a search as text."""

import pytest

from search.study import text


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 epochs"), (1, "1 epoch"), (2, "2 epochs"), (1_200, "1,200 epochs")]
)
def test_one_of_a_thing_is_said_in_the_singular(number: int, words: str) -> None:
    assert text.counted(number, "epoch") == words
