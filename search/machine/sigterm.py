"""SIGTERM as an exception, so that what was begun is ended in order: Ctrl-C is one already."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

CODE = 143


@contextmanager
def raised() -> Iterator[None]:
    """Within, SIGTERM raises SystemExit(143) in the main thread."""

    def end(_signal: int, _frame: object) -> None:
        raise SystemExit(CODE)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
