"""How many random examples a property is held against: all of them under --thorough, a tenth without.

Every run draws other examples, so that the runs of `make test` add up. conftest.py says which of the two it
is before the tests are imported.
"""

THOROUGH = False
FEWEST = 25


def examples(count: int) -> int:
    """max_examples of a property that `make check` holds against `count` examples."""
    return count if THOROUGH else min(count, max(FEWEST, count // 10))
