"""Data sets that are aligned ever less, and the table of what a shift gains on them."""

import numpy as np

from benchmarks import alignment


def test_an_image_is_moved_always_alike_and_by_no_more_than_said() -> None:
    images = np.zeros((40, 9, 9, 1), np.uint8)
    images[:, 4, 4] = 200
    moved = alignment.jittered(images, 2)
    assert np.array_equal(moved, alignment.jittered(images, 2))
    places = np.argwhere(moved[..., 0] == 200)[:, 1:] - 4
    assert len(places) == 40 and np.abs(places).max() == 2 and len(np.unique(places, axis=0)) > 10
    assert np.array_equal(alignment.jittered(images, 0), images)


def test_the_table_sets_shifted_against_not_shifted_trainings_of_a_jitter() -> None:
    rows = [
        {"jitter": jitter, "shift": shift, "share": 0.3 - jitter / 10, "accuracy": accuracy}
        for jitter, shift, accuracy in [
            (1, 0, 0.8),
            (1, 2, 0.83),
            (0, 0, 0.9),
            (0, 2, 0.88),
            (0, 2, 0.86),
            (2, 0, 0.7),
        ]
    ]
    assert alignment.table(rows).splitlines()[2:] == [
        "| 0 pixels | 30% | 90.0% | 87.0% | -3.0 points |",
        "| 1 pixel | 20% | 80.0% | 83.0% | +3.0 points |",
    ]
