"""Standard streams whose reader has gone. Called by search/cli.py, and by what commands write with."""

import os
from contextlib import suppress
from typing import TextIO


def forget(stream: TextIO | None) -> None:
    """Lets what is still to be written go nowhere, so that neither work nor the end of the process fails over
    it. None is a stream that was closed before the start."""
    if stream is None:
        return
    with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), stream.fileno())


def hold_numbers() -> None:
    """Opens what of stdin, stdout and stderr was closed on /dev/null: else the next file, be it a database,
    would have that number, and a library's messages would be written into it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
