"""Which reading of a short training ranks networks best: on the stored curves, Kendall's tau with the truth.

    python -m benchmarks.simulated.ranking [--curves benchmarks/curves] [--out FILE]

Readings are the validation accuracy, the validation cross-entropy, the mean of the last training losses
(Ru et al., Speedy Performance Estimation for Neural Architecture Search, NeurIPS 2021: their estimator is
the sum, which ranks alike), the sum of the last epoch's two losses, and pairs of these by their mean rank;
after equal epochs, and after equal seconds. Truth is the accuracy on the test images. Reads the tables and
writes one file, of which document.py writes tables of docs/search.md. No simulation, no model: seconds of
computing.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.simulated import suite, table

Array = NDArray[np.float64]
RESULTS = Path("benchmarks/results/ranking.json")
RESAMPLES = 1_000
SHARES = (0.25, 0.5, 1.0)  # of the seconds that the median network takes for all epochs
ACCURACY, LOSS = "validation accuracy", "validation cross-entropy"
LAST, LAST_THREE, ALL = "training loss, last epoch", "training loss, last three", "training loss, all epochs"
BOTH = "validation cross-entropy plus training loss"
PAIRED = (ACCURACY, LOSS, LAST_THREE)


@dataclass(frozen=True)
class Curves:
    """(networks, epochs) each, but (networks,) of seconds an epoch and truth; `training` has no columns where
    the table has no training losses."""

    accuracy: Array
    loss: Array
    training: Array
    seconds: Array
    truth: Array

    @classmethod
    def of(cls, curves: table.Table) -> "Curves":
        """Without the networks that diverged: whatever is read, they are last."""
        whole = [entry for entry in curves.entries if entry.loss]
        training = [entry.training_loss for entry in whole]
        return cls(
            accuracy=np.array([entry.curve for entry in whole]),
            loss=np.array([entry.loss for entry in whole]),
            training=np.array(training) if all(training) else np.zeros((len(whole), 0)),
            seconds=np.array([entry.seconds for entry in whole]),
            truth=np.array([entry.truth for entry in whole]),
        )

    def of_best_half(self) -> "Curves":
        kept = np.argsort(-self.truth, kind="stable")[: (len(self.truth) + 1) // 2]
        return Curves(*(part[kept] for part in vars(self).values()))

    @property
    def epochs(self) -> int:
        return self.accuracy.shape[1]

    def after_seconds(self, share: float) -> NDArray[np.int64]:
        """Epochs that each network has done by then, at most all."""
        limit = share * float(np.median(self.seconds)) * self.epochs
        return np.minimum(self.epochs, (limit / self.seconds + 1e-9).astype(np.int64))


def readings(curves: Curves, done: NDArray[np.int64]) -> dict[str, Array]:
    """Ranks of the networks by each reading after so many epochs of each, higher is better; those that have
    not finished one are last."""
    found = {ACCURACY: _ranks(_read(curves.accuracy, done, 1)), LOSS: _ranks(_read(-curves.loss, done, 1))}
    if curves.training.shape[1]:
        for name, count in ((LAST, 1), (LAST_THREE, 3), (ALL, curves.epochs)):
            found[name] = _ranks(_read(-curves.training, done, count))
        found[BOTH] = _ranks(_read(-curves.loss - curves.training, done, 1))
    pairs = combinations([name for name in PAIRED if name in found], 2)
    return found | {f"{a} and {b}": _ranks(found[a] + found[b]) for a, b in pairs}


def _read(values: Array, done: NDArray[np.int64], count: int) -> Array:
    """Each network's mean of its last `count` values."""
    return np.array(
        [
            row[max(0, end - count) : end].mean() if end else -np.inf
            for row, end in zip(values, done, strict=True)
        ]
    )


def _ranks(values: Array) -> Array:
    from scipy.stats import rankdata

    return np.asarray(rankdata(values))


def signs(values: Array) -> Array:
    """(n, n): which of two is higher; 0 where they are level."""
    return np.sign(values[:, None] - values[None, :])


def taus(reading: Array, truth: Array, weights: Array) -> Array:
    """Kendall's tau-b of a reading and the truth for each row of weights: how often a network is counted."""
    x, y = signs(reading), signs(truth)

    def sums(matrix: Array) -> Array:
        return np.asarray(((weights @ matrix) * weights).sum(axis=1))

    return sums(x * y) / np.sqrt(sums(np.abs(x)) * sums(np.abs(y)))


def resampled(count: int, seed: int = 0) -> Array:
    """(1 + resamples, networks): each once, then the bootstrap's draws with replacement."""
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    return np.concatenate([np.ones((1, count)), draws.astype(np.float64)])


def compared(curves: Curves, done: NDArray[np.int64]) -> dict[str, dict[str, list[float]]]:
    """Of each reading tau and its difference from accuracy's, each with the ends of its 95% interval."""
    weights = resampled(len(curves.truth))
    found = {name: taus(ranks, curves.truth, weights) for name, ranks in readings(curves, done).items()}
    return {
        name: {"tau": _interval(values), "ahead": _interval(values - found[ACCURACY])}
        for name, values in found.items()
    }


def _interval(values: Array) -> list[float]:
    """The value itself, then the 2.5th and 97.5th percentile of the resamples."""
    low, high = np.nanpercentile(values[1:], [2.5, 97.5])
    return [round(float(value), 4) for value in (values[0], low, high)]


def analysed(curves: Curves) -> dict[str, Any]:
    return {
        "networks": len(curves.truth),
        "by_epoch": [
            compared(curves, np.full(len(curves.truth), epoch)) for epoch in range(1, curves.epochs + 1)
        ],
        "by_seconds": [compared(curves, curves.after_seconds(share)) for share in SHARES],
    }


def chosen(curves: Curves) -> dict[str, dict[str, list[float]]]:
    """The truth of the network that each reading puts first after the last epoch, and its difference from
    that of accuracy's choice; of equals the mean. Intervals by resampling networks: one of them is first."""
    weights = resampled(len(curves.truth))
    ranked = readings(curves, np.full(len(curves.truth), curves.epochs))
    found = {name: _first(ranks, curves.truth, weights) for name, ranks in ranked.items()}
    return {
        name: {"truth": _interval(values), "ahead": _interval(values - found[ACCURACY])}
        for name, values in found.items()
    }


def _first(ranks: Array, truth: Array, weights: Array) -> Array:
    """(resamples,): the mean truth of those of the highest rank that are there."""
    there = np.where(weights > 0, ranks, -np.inf)
    best = weights * (there == there.max(axis=1, keepdims=True))
    return np.asarray((best @ truth) / best.sum(axis=1))


def choices(found: dict[str, dict[str, list[float]]]) -> str:
    """A table in Markdown: a line a reading."""
    lines = ["| Reading | Truth of its first, % | Against accuracy's, points |", "| --- | ---: | ---: |"]
    for name, one in found.items():
        (truth, *_), (ahead, less, more) = one["truth"], one["ahead"]
        against = "" if name == ACCURACY else f"{100 * ahead:+.2f} ({100 * less:+.2f} to {100 * more:+.2f})"
        lines.append(f"| {name} | {100 * truth:.2f} | {against} |")
    return "\n".join(lines)


def report(found: dict[str, table.Table]) -> dict[str, Any]:
    """The document that document.py reads."""
    tables = {}
    for key, one in found.items():
        curves = Curves.of(one)
        tables[key] = {
            "data": one.data,
            "diverged": len(one.entries) - len(curves.truth),
            "chosen": chosen(curves),
            "all": analysed(curves),
            "best half": analysed(curves.of_best_half()),
        }
    return {"resamples": RESAMPLES, "shares": list(SHARES), "tables": tables}


def shown_epochs(epochs: int) -> list[int]:
    """Those that the page has room for: a quarter, a third, half, three quarters and all."""
    return sorted({max(1, round(epochs * share)) for share in (0.25, 1 / 3, 0.5, 0.75, 1.0)})


def rendered(group: dict[str, Any], shares: Sequence[float]) -> str:
    """A table in Markdown: a line a reading; bold where the difference from accuracy excludes 0."""
    epochs = shown_epochs(len(group["by_epoch"]))
    columns = [(f"epoch {epoch}", group["by_epoch"][epoch - 1]) for epoch in epochs]
    columns += [
        (f"{round(100 * share)}% of the seconds", one)
        for share, one in zip(shares, group["by_seconds"], strict=True)
    ]
    head = ["Reading", *(name for name, _ in columns)]
    lines = [head, ["---", *["---:"] * len(columns)]]
    lines += [[name, *(_cell(found[name]) for _, found in columns)] for name in columns[0][1]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(found: dict[str, list[float]]) -> str:
    (tau, low, high), (_, less, more) = found["tau"], found["ahead"]
    text = f"{tau:.2f} ± {(high - low) / 2:.2f}"
    return f"**{text}**" if less > 0 or more < 0 else text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--curves", type=Path, default=suite.CURVES, help="the folder of packed curves")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    paths = {key: arguments.curves / f"{key}.json.gz" for key in (suite.TABLE, *suite.OLD_TABLES)}
    document = report({key: table.load(path) for key, path in paths.items() if path.exists()})
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(document) + "\n", encoding="utf-8")
    for key, one in document["tables"].items():
        print(f"\n{key}, first by each reading\n\n{choices(one['chosen'])}")
        for group in ("all", "best half"):
            print(f"\n{key}, {group}: {one[group]['networks']} networks\n")
            print(rendered(one[group], document["shares"]))


if __name__ == "__main__":
    main()
