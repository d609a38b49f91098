"""Trains the published networks under equal conditions, and one of them by each published recipe.

    python -m benchmarks.published networks [--data cifar10] [--epochs 200] [--seeds 2] [--train-images N]
                                            [--data-dir DIR] [--out build/published] [--workers N]
                                            [--image-size PIXELS]
    python -m benchmarks.published recipes  [--network 001-final] [the same]

Each training is a `search train` of its own, as many beside each other as there are GPUs, else cores; what is
done in --out is not done again. Prints a Markdown table of last-epoch validation accuracy and test accuracy,
by seed; with --keep it goes into docs/published.md too. `networks` trains every distinct published network by
the default recipe (within the limit; those that cost the same count once, whatever their dropout is);
`recipes` trains one by the default recipe and by that of each system's final row, its schedule stretched to
the epochs.
"""

import argparse
import json
import platform
import re
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.simulated.measure import interval

LIMIT = 5_000_000  # that the systems were made for
RESULTS, PAGE = Path("benchmarks/results/published.json"), Path("docs/published.md")
FINALS = ("000-res-512-d", "001-final", "002-final", "003-final", "004-final")


@dataclass(frozen=True)
class Line:
    """One training: what the table calls it, its network and its recipe (None: the default)."""

    name: str
    network: str
    recipe: str | None = None


def networks() -> list[Line]:
    """Of networks that cost the same, the one with the highest reported accuracy."""
    from space import published

    found: dict[tuple[int, int], Line] = {}
    for entry in sorted(published.everything(), key=lambda entry: -(entry.accuracy or 0)):
        if entry.parameters <= LIMIT:
            found.setdefault((entry.parameters, entry.macs), Line(entry.name, entry.name))
    return sorted(found.values(), key=lambda line: line.name)


def recipes(network: str) -> list[Line]:
    """The default, and the final recipe of each system."""
    theirs = [Line(f"{name[:3]} ({name})", network, f"published:{name}") for name in FINALS]
    return [Line("ours (default)", network), *theirs]


def run(lines: Sequence[Line], given: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The results by the lines' names; those that failed are told and left out."""
    from search.machine import devices
    from search.training import parallel
    from search.training.parallel import TrainingProcess

    out = Path(given.out)
    common = ["--data", given.data, "--epochs", str(given.epochs), "--seeds", str(given.seeds), "--resume"]
    common += ["--data-dir", given.data_dir] if given.data_dir else []
    common += ["--train-images", str(given.train_images)] if given.train_images else []
    out.mkdir(parents=True, exist_ok=True)
    works = []
    for line in lines:
        folder = out / f"{line.network}-by-{(line.recipe or 'default').removeprefix('published:')}"
        recipe = ["--recipe", line.recipe or _default(line, out)]
        arguments = (_subject(line, given.image_size, out), *common, *recipe, "--out", str(folder))
        works.append(TrainingProcess(line.name, arguments, folder / "log.txt"))
    if given.collect:
        return read(works)
    slots = devices.slots("all", given.workers)
    storage = f"sqlite:///{out.resolve() / 'trainings.db'}"
    done = parallel.run(works, slots, storage, lambda d: print(d.work.name, d.code, d.last, file=sys.stderr))
    return read([ended.work for ended in done if ended.code == 0])


def read(works: Sequence[Any]) -> dict[str, dict[str, Any]]:
    """The results of those that are done."""
    found = {work.name: work.log.parent / "result.json" for work in works}
    return {name: json.loads(path.read_text()) for name, path in found.items() if path.exists()}


def _subject(line: Line, side: int | None, out: Path) -> str:
    """The network; for images of another size, in a file of its own, as it has its size written in it."""
    from space import published

    if side is None:
        return f"published:{line.network}"
    found = published.find(line.network).architecture
    path = out / f"{line.network}-{side}.json"
    path.write_text(json.dumps(found.model_copy(update={"image_size": side}).document(), indent=1))
    return str(path)


def _default(line: Line, out: Path) -> str:
    """A file that changes nothing of the default recipe, but accepts the softmax that one network has before
    its loss."""
    from space import published

    softmax = published.find(line.network).architecture.head.softmax
    path = out / f"default{'-softmax' if softmax else ''}.json"
    path.write_text(json.dumps({"accept": ["softmax"]} if softmax else {}))
    return str(path)


def collected(lines: Sequence[Line], results: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What the table says of each line: counts, what was reported, and the accuracies by seed."""
    from space import published

    rows = []
    for line in lines:
        entry, found = published.find(line.network), results.get(line.name)
        reported = published.find(line.recipe.removeprefix("published:")) if line.recipe else entry
        seeds = found["seeds"] if found else []
        rows.append(
            {
                "name": line.name,
                "printed": entry.printed_parameters,
                "parameters": entry.parameters,
                "macs": entry.macs,
                "reported": reported.accuracy if line.recipe or line.name == entry.name else None,
                "validation": [one["validation"]["accuracy"] for one in seeds],
                "test": [one["test"]["accuracy"] for one in seeds],
            }
        )
    return rows


def table(rows: Sequence[dict[str, Any]], what: str) -> str:
    """Markdown, in the order of the lines; recipes beside the first of them, seed by seed."""
    heads = ["", "Printed", "Counted", "Multiply-accumulates", "Reported, %", "Validation, %", "Test, %"]
    if what == "recipes":
        heads = ["Recipe", "Reported, %", "Validation, %", "Test, %", "Ours minus this, validation", "test"]
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for row in rows:
        reported = f"{100 * row['reported']:.2f}" if row["reported"] else "-"
        scores = [_scores(row["validation"]), _scores(row["test"])]
        if what == "recipes":
            better = [_against(rows[0][part], row[part]) for part in ("validation", "test")]
            cells = [row["name"], reported, *scores, *(better if row is not rows[0] else ["", ""])]
        else:
            printed = f"{row['printed']:,}" if row["printed"] else "-"
            cells = [row["name"], printed, f"{row['parameters']:,}", f"{row['macs']:,}", reported, *scores]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _scores(scores: Sequence[float]) -> str:
    """The mean and each seed's, in percent."""
    each = ", ".join(f"{100 * score:.1f}" for score in scores)
    return f"**{100 * statistics.mean(scores):.1f}** ({each})" if scores else "-"


def _against(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Points, the mean over the seeds with Student's 95% interval."""
    if len(ours) != len(theirs) or len(ours) < 2:
        return "-"
    found = interval([100 * (a - b) for a, b in zip(ours, theirs, strict=True)])
    return f"{found.mean:+.1f} ± {found.half:.1f}"


def rendered(page: str, results: dict[str, Any]) -> str:
    """The page with its two tables written from the results."""

    def block(match: re.Match[str]) -> str:
        what = match[1]
        found = results.get(what)
        body = f"{found['conditions']}\n\n{table(found['rows'], what)}" if found else "Not measured yet."
        return f"<!-- {what} -->\n{body}\n<!-- end -->"

    return re.sub(r"<!-- (networks|recipes) -->\n.*?<!-- end -->", block, page, flags=re.DOTALL)


def conditions(what: str, results: dict[str, dict[str, Any]]) -> str:
    """In one sentence, from what the trainings say of themselves."""
    one = next(iter(results.values()))
    data, recipe, seeds = one["data"], one["recipe"], len(one["seeds"])
    common = "the default recipe" if what == "networks" else "each recipe's own batch size and rate"
    side = data["image_size"]
    images = (
        f"{data['train_images']:,} images of {side} x {side} pixels to train on, "
        f"{data['validation_images']:,} validation"
    )
    versions = f"Python {platform.python_version()}, torch {version('torch')}, one CPU thread a training"
    test = one["seeds"][0]["test"]["images"]
    return (
        f"{data['name']}: {images}, {test:,} test; {recipe['epochs']} epochs, {common}; "
        f"{seeds} seeds: the mean and (each); {versions}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["networks", "recipes"])
    parser.add_argument("--network", default="001-final")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--data-dir")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--train-images", type=int)
    parser.add_argument(
        "--image-size", type=int, help="train the networks on images of so many pixels a side"
    )
    parser.add_argument("--workers", type=int)
    parser.add_argument("--out", default="build/published")
    parser.add_argument("--collect", action="store_true", help="train nothing: what is done in --out")
    parser.add_argument("--keep", action="store_true", help=f"into {RESULTS} and {PAGE}")
    given = parser.parse_args()
    lines = networks() if given.what == "networks" else recipes(given.network)
    results = run(lines, given)
    rows = collected(lines, results)
    print(table(rows, given.what))
    if given.keep and results:
        kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        kept[given.what] = {"conditions": conditions(given.what, results), "rows": rows}
        RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
        PAGE.write_text(rendered(PAGE.read_text(), kept))


if __name__ == "__main__":
    main()
