"""The table of recorded learning curves: read from benchmarks/curves/*.json.gz, and put into arrays.

curves.py wrote the files; worlds.py and suite.py read the table.
"""

import gzip
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.simulated.features import features
from space import space as spaces
from space.architecture import Architecture
from space.budget import Budget
from space.space import SearchSpace, Task

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Entry:
    """One network as it was trained: `curve` is of its first seed, `truths` of all its seeds and `truth`
    their mean. `loss` of the validation images and `training_loss` are of the first seed too, one value an
    epoch; empty where a training diverged, or the file has none."""

    architecture: Architecture
    parameters: int
    macs: int
    curve: tuple[float, ...]
    seconds: float
    truths: tuple[float, ...]
    loss: tuple[float, ...] = ()
    training_loss: tuple[float, ...] = ()

    @property
    def truth(self) -> float:
        return float(np.mean(self.truths))


@dataclass(frozen=True)
class Table:
    """Networks that diverged have the accuracy of a guess, in every epoch: a search meets them too."""

    conditions: dict[str, Any]
    entries: tuple[Entry, ...]
    repeats: tuple[tuple[int, tuple[float, ...]], ...]
    published: tuple[dict[str, Any], ...] = ()

    @property
    def data(self) -> str:
        return str(self.conditions["data"])

    @property
    def epochs(self) -> int:
        return int(self.conditions["recipe"]["epochs"])

    @property
    def validation_images(self) -> int:
        return int(self.conditions["validation_images"])

    @cached_property
    def space(self) -> SearchSpace:
        return spaces.parse(self.conditions["space"])

    @property
    def budget(self) -> Budget:
        return Budget(**self.conditions["budget"])

    @property
    def task(self) -> Task:
        return Task(**self.conditions["task"])

    @cached_property
    def features(self) -> Array:
        return np.stack([features(e.architecture, e.parameters, e.macs) for e in self.entries])

    @cached_property
    def targets(self) -> Array:
        """(networks, epochs + 2): log odds of the curve and of the truth, log of the seconds of an epoch.

        Log odds, because between 97 and 99% there is as much to tell as between 50 and 75%.
        """
        rows = [[*log_odds([*e.curve, e.truths[0]]), np.log(e.seconds)] for e in self.entries]
        return np.asarray(rows)

    @cached_property
    def luck(self) -> Array:
        """(trainings, epochs + 1): how far one training of a network is from the mean of its trainings, log
        odds of curve and truth, widened by sqrt(n / (n - 1)) so that the variance is that of one training."""
        return np.concatenate([rows for _, rows in self._lucks])

    @cached_property
    def luck_of(self) -> Array:
        """(trainings,): log odds of the mean truth of the network that each row of `luck` is of."""
        return np.concatenate([np.full(len(rows), mean) for mean, rows in self._lucks])

    @cached_property
    def _lucks(self) -> list[tuple[float, Array]]:
        groups: dict[int, list[Array]] = defaultdict(list)
        for index, row in self.repeats:
            groups[index].append(np.asarray(row))
        deviations = []
        for index, rows in groups.items():
            all_rows = np.stack([self.targets[index][:-1], *(log_odds(row) for row in rows)])
            count = len(all_rows)
            mean = all_rows.mean(axis=0)
            deviations.append((float(mean[-1]), (all_rows - mean) * np.sqrt(count / (count - 1))))
        return deviations


def log_odds(accuracies: Sequence[float] | Array) -> Array:
    """Kept away from 0 and 1, where a handful of images decides."""
    clipped = np.clip(np.asarray(accuracies, dtype=np.float64), 0.02, 0.998)
    return np.asarray(np.log(clipped / (1 - clipped)))


def load(path: Path) -> Table:
    """Reads a packed file of benchmarks/simulated/curves.py. What a search trained twice is one entry,
    and its later trainings are repeats from other seeds."""
    packed = json.loads(gzip.decompress(path.read_bytes()))
    epochs = packed["conditions"]["recipe"]["epochs"]
    place: dict[str, int] = {}
    index: dict[int, int] = {}
    firsts: list[dict[str, Any]] = []
    again: list[tuple[int, dict[str, Any]]] = []
    for row in packed["networks"]:
        name = Architecture.parse(row["architecture"]).fingerprint
        if name in place:
            again.append((place[name], row))
        else:
            place[name] = len(firsts)
            firsts.append(row)
        index[row["draw"]] = place[name]
    again += [(index[row["draw"]], row) for row in packed["repeats"]]
    further: dict[int, list[float]] = defaultdict(list)
    for i, row in again:
        further[i].append(row["truth"])
    entries = tuple(_entry(row, epochs, further[i]) for i, row in enumerate(firsts))
    repeats = tuple((i, _row(row, epochs)) for i, row in again)
    published = tuple(row["params"] for row in packed["networks"] if row.get("published"))
    return Table(packed["conditions"], entries, repeats, published)


def _row(row: dict[str, Any], epochs: int) -> tuple[float, ...]:
    return (*(row["accuracy"] or [row["truth"]] * epochs), row["truth"])


def _entry(row: dict[str, Any], epochs: int, further: list[float]) -> Entry:
    return Entry(
        architecture=Architecture.parse(row["architecture"]),
        parameters=row["parameters"],
        macs=row["macs"],
        curve=_row(row, epochs)[:-1],
        seconds=float(np.median(row["seconds"])) if row["seconds"] else 1.0,
        truths=(row["truth"], *further),
        loss=tuple(row["loss"]),
        training_loss=tuple(row.get("training_loss", ())),
    )
