"""The console on which commands say how their work goes: stderr, so that stdout holds data alone.

Made by the commands launch, train and confirm; search/launcher/display.py and search/training/progress.py
draw on it.
"""

from rich.console import Console


def stderr_console() -> Console:
    """Prints lines as they are: without colours of numbers, without markup, never broken at the width."""
    return Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
