"""The epochs of a trial where `--epochs` was not given and time is limited, and their reason.

A limit of time that a handful of trials would use up makes no search: on cores trials are then shorter, so
that FEW of them have time, or as many as have with LEAST epochs. Called by search/launcher/prepare.py for a
new study, and by search/commands/launch_session.py to print it. Reads and writes nothing; a study that exists
keeps its epochs.
"""

from dataclasses import dataclass

from search.study.compute_limit import CORE, STEP
from search.study.text import counted

FEW = 40  # trials that a search has time for, as far as shorter ones give it them
SHARE = 0.5  # of the limit of multiply-accumulates, that networks of the default space use in the mean
LEAST = 2  # epochs: of one alone a pruner hears nothing


@dataclass(frozen=True)
class TrialLength:
    """Epochs of a trial, less than the usual ones, and how many trials have time then, roughly."""

    epochs: int
    usual: int
    trials: int

    @property
    def note(self) -> str:
        """That it is the default, why, and how to have longer ones."""
        return (
            f"--epochs {self.epochs} is the default in so little time, for about"
            f" {counted(self.trials, 'trial')} on these cores; --epochs {self.usual} is usual"
        )


def in_time(usual: int, images: int, macs: int, seconds: float, trials: int) -> TrialLength | None:
    """The most epochs with which FEW trials, or as many as are wanted, end in `seconds` of one core; None
    where that many of the usual length do.

    `images` are trained on in an epoch, by networks of at most so many multiply-accumulates an image. It
    follows from these numbers alone, not from a measurement: the same command is the same search.
    """
    an_epoch = STEP * images * SHARE * macs / CORE
    wanted = min(FEW, trials)
    epochs = max(LEAST, int(seconds / (an_epoch * wanted)))
    if epochs >= usual:
        return None
    return TrialLength(epochs, usual, min(trials, max(1, int(seconds / (an_epoch * epochs)))))
