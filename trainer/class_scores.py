"""Scores that count each class the same: balanced accuracy and macro F1, from counts by class.

Takes counts, returns numbers. Called by trainer/evaluation.py on validation images and by
search/training/test_set.py on test images.
"""

from collections.abc import Sequence
from typing import NamedTuple


class ClassScores(NamedTuple):
    """balanced_accuracy: mean recall over the classes; macro_f1: mean over them of the F1 of each. 0..1."""

    balanced_accuracy: float
    macro_f1: float


def class_scores(hits: Sequence[int], true: Sequence[int], taken: Sequence[int]) -> ClassScores:
    """Of images of each class: those that were recognised, those there are, those taken for the class.

    Classes without an image are left out. F1 is the harmonic mean of recall and precision, 2 hits of
    true + taken. Raises ValueError where there is no image at all.
    """
    there = [row for row in zip(hits, true, taken, strict=True) if row[1]]
    if not there:
        raise ValueError("no image of any class")
    recall = [hit / count for hit, count, _ in there]
    f1 = [2 * hit / (count + named) for hit, count, named in there]
    return ClassScores(sum(recall) / len(there), sum(f1) / len(there))
