"""Progress of a full training: on stderr a bar on a terminal, a line for each epoch elsewhere; and a small
file in its folder for whoever looks after several trainings.

Called back by search/training/run.py, made by search/training/train.py.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from search.study.text import percent, span
from search.training import progress_file
from search.training.progress_file import TrainingMoment
from trainer.outcome import EpochReport

SECONDS = 10.0  # over which the pace is measured
FILE_SECONDS = 1.0  # between two writings of the file, at least


class TrainingProgress:
    """Follows one seed after another of a training of so many `epochs` in batches of so many `images`;
    `folder` is where its file lies."""

    def __init__(
        self, console: Console, seeds: Sequence[int], epochs: int, images: int, folder: Path
    ) -> None:
        self.console, self.seeds, self.epochs = console, tuple(seeds), epochs
        self.images, self.folder = images, folder
        self.number, self.seed = 0, 0
        self.written = -FILE_SECONDS
        self.last: EpochReport | None = None
        self.marks: list[tuple[float, int]] = []
        self.live = console.is_terminal
        columns = (BarColumn(32), TextColumn("{task.percentage:>3.0f}%"), TextColumn("{task.description}"))
        self.bar = Progress(*columns, console=console, transient=True, disable=not self.live)
        self.task = self.bar.add_task("", total=None)

    def on_seed(self, seed: int, done: Sequence[EpochReport]) -> None:
        """A seed starts, or goes on after epochs that were done before."""
        self.number, self.seed, self.marks = self.seeds.index(seed) + 1, seed, []
        self.last = done[-1] if done else None
        if done:
            self.say(f"seed {seed} goes on after epoch {done[-1].epoch}")

    def on_batch(self, step: int, steps: int) -> None:
        """After `step` of the `steps` of the whole training; moves the bar."""
        now = time.monotonic()
        self.marks.append((now, step))
        while now - self.marks[0][0] > SECONDS and len(self.marks) > 2:
            self.marks.pop(0)
        if now - self.written >= FILE_SECONDS or step == steps:
            self._write(step / steps)
            self.written = now
        if self.live:
            described = f"{self._where()} {self._pace(steps)}"
            self.bar.update(self.task, completed=step, total=steps, description=described)

    def on_epoch(self, report: EpochReport) -> None:
        """After an epoch; a line where there is no terminal."""
        self.last = report
        if not self.live:
            steps = round(self.marks[-1][1] * report.epochs / report.epoch) if self.marks else 0
            self.say(
                f"seed {self.seed} epoch {report.epoch}/{report.epochs}"
                f" loss {report.train_loss:.3f} validation {percent(report.validation_accuracy)}"
                f" rate {report.learning_rate:.4g} {self._pace(steps)}"
            )

    def _write(self, part: float) -> None:
        done = self.last
        progress_file.write(
            self.folder,
            TrainingMoment(
                seed=self.seed,
                number=self.number,
                seeds=len(self.seeds),
                epoch=done.epoch if done else 0,
                epochs=self.epochs,
                accuracy=done.validation_accuracy if done else None,
                part=part,
            ),
        )

    def say(self, line: str) -> None:
        """A line with the time of day before it."""
        self.console.print(f"{datetime.now():%H:%M:%S} {line}", highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def warnings(self) -> Iterator[None]:
        """Shows each warning of the trainer as a line: of a checkpoint that cannot be used or written."""
        handler, logger = logging.Handler(), logging.getLogger("trainer")
        handler.emit = lambda record: self.say(record.getMessage())  # type: ignore[method-assign]
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)

    def _where(self) -> str:
        seed = f"seed {self.seed} ({self.number} of {len(self.seeds)})"
        if not self.last:
            return seed
        return f"{seed} epoch {self.last.epoch}/{self.last.epochs} {percent(self.last.validation_accuracy)}"

    def _pace(self, steps: int) -> str:
        """Images a second of late, validation included, and when this seed is done at that."""
        if len(self.marks) < 2:
            return ""
        (then, before), (now, step) = self.marks[0], self.marks[-1]
        if step == before:
            return ""
        pace = (step - before) / max(now - then, 1e-9)
        return f"{pace * self.images:,.0f} images/s, ETA {span((steps - step) / pace)}"
