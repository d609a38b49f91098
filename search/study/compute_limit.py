"""The limit of multiply-accumulates that a search has where `--max-macs` was not given, and its reason.

Called by search/launcher/prepare.py for a new study, by `search launch` to print it, and by the commands of a
space, which forecast such a study. Reads and writes nothing; a study that exists keeps the limit that it was
made with.
"""

from dataclasses import dataclass

UNLIMITED = 0  # `--max-macs none`, told apart from a flag that was not given
ON_A_GPU = 10**9  # for 32 pixels: all published networks and good ones of 5M parameters stay below it
PIXELS = 32 * 32
CORE = 20 * 10**9  # multiply-accumulates a second that one core trains, roughly: half of what AVX2 could
STEP = 3  # passes of a training step: forward, and twice as much backward
MINUTE = 60
LEAST = 8 * 10**6  # for 32 pixels: below it networks learn too little to be told apart


@dataclass(frozen=True)
class ComputeLimit:
    """Multiply-accumulates of one image, and the reason in words."""

    macs: int
    reason: str

    @property
    def note(self) -> str:
        """That it is the default, why, and how to lift it."""
        return f"--max-macs {self.macs:,} is the default: {self.reason}; --max-macs none lifts it"


def default(image_size: int, images: int, on_cpu: bool, smallest: int) -> ComputeLimit:
    """The default for images of this side in pixels, `images` of which a trial trains on in all its epochs.

    It follows from these numbers alone, not from a measurement: the same command is the same search. At least
    twice what the `smallest` network of the space costs.
    """
    area = image_size * image_size / PIXELS
    most = _round(ON_A_GPU * area)
    if not on_cpu:
        limit, reason = most, f"1G for 32 pixels a side, by area: {image_size} pixels"
    else:
        minute = CORE * MINUTE / (STEP * max(1, images))
        limit, least = _round(min(most, minute)), _round(LEAST * area)
        reason = "about a minute a trial on a core"
        if limit < least:
            minutes = least / minute
            limit, reason = least, f"the least that tells networks apart; up to {minutes:.0f} minutes a trial"
    if limit < 2 * smallest:
        limit, reason = _round(2 * smallest), "twice the smallest network of the space"
    return ComputeLimit(limit, reason)


def _round(number: float) -> int:
    """To two digits, as an estimate is."""
    return max(1, int(float(f"{number:.2g}")))
