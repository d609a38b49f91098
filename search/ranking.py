"""Which networks lead, and how far their numbers can be trusted. Knows no database."""

from math import sqrt
from typing import NamedTuple

Z95 = 1.959964  # two-sided 95% quantile of the normal distribution


class Interval(NamedTuple):
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.low:.1f}-{100 * self.high:.1f}%"


def wilson(accuracy: float, images: int) -> Interval:
    """95% interval of an accuracy (0..1) measured once on `images` images (Wilson 1927).

    It holds the luck of these images only: neither that of the seed, nor that of having chosen the best.
    """
    scale = 1 + Z95**2 / images
    centre = (accuracy + Z95**2 / (2 * images)) / scale
    half = Z95 * sqrt(accuracy * (1 - accuracy) / images + Z95**2 / (4 * images**2)) / scale
    return Interval(max(0.0, centre - half), min(1.0, centre + half))
