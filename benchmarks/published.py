"""The published networks under equal conditions, and the published recipes on one of these networks.

    python -m benchmarks.published networks [--data cifar10] [--epochs 200] [--seeds 2] [--train-images N]
                                            [--data-dir DIR] [--out build/published] [--workers N]
    python -m benchmarks.published recipes  [--network 001-final] [the same]

Each training is a `search train` of its own, as many beside each other as there are GPUs, else cores; what is
done in --out is not done again. Prints a Markdown table: last-epoch validation accuracy and test accuracy,
mean over the seeds with Student's 95% interval. `networks` trains every distinct published network by the
default recipe (within the limit; those that cost the same count once, whatever their dropout or activation);
`recipes` trains one by the default recipe and by that of each system's final row, its schedule stretched to
the epochs.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIMIT = 5_000_000  # that the systems were made for
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
    from search import crew, devices
    from search.crew import Work

    out = Path(given.out)
    common = ["--data", given.data, "--epochs", str(given.epochs), "--seeds", str(given.seeds), "--resume"]
    common += ["--data-dir", given.data_dir] if given.data_dir else []
    common += ["--train-images", str(given.train_images)] if given.train_images else []
    out.mkdir(parents=True, exist_ok=True)
    works = []
    for line in lines:
        folder = out / f"{line.network}-by-{(line.recipe or 'default').removeprefix('published:')}"
        recipe = ["--recipe", line.recipe or _default(line, out)]
        arguments = (f"published:{line.network}", *common, *recipe, "--out", str(folder))
        works.append(Work(line.name, arguments, folder / "log.txt"))
    slots = devices.slots("all", given.workers)
    storage = f"sqlite:///{out.resolve() / 'trainings.db'}"
    done = crew.run(works, slots, storage, lambda d: print(d.work.name, d.code, d.last, file=sys.stderr))
    good = [ended.work for ended in done if ended.code == 0]
    return {work.name: json.loads((work.log.parent / "result.json").read_text()) for work in good}


def _default(line: Line, out: Path) -> str:
    """A file with the default recipe; it accepts the softmax that one network has before its loss."""
    from space import published
    from trainer import recipe

    softmax = published.find(line.network).architecture.head.softmax
    document = recipe.full("cifar10").model_dump(mode="json", exclude_defaults=True) | (
        {"accept": ["softmax"]} if softmax else {}
    )
    path = out / f"default{'-softmax' if softmax else ''}.json"
    path.write_text(json.dumps(document, indent=1))
    return str(path)


def table(lines: Sequence[Line], results: dict[str, dict[str, Any]]) -> str:
    """Markdown, in the order of the lines."""
    from space import published

    head = (
        "| | Printed | Counted | Multiply-accumulates | Reported | Validation | Test |",
        "|" + " --- |" * 7,
    )
    rows = []
    for line in lines:
        entry, found = published.find(line.network), results.get(line.name)
        printed = f"{entry.printed_parameters:,}" if entry.printed_parameters else "-"
        reported = published.find(line.recipe.removeprefix("published:")) if line.recipe else entry
        accuracy = f"{100 * reported.accuracy:.2f}" if reported.accuracy else "-"
        figures = [_told((found or {}).get("summary", {}).get(name)) for name in FIGURES]
        cells = (line.name, printed, f"{entry.parameters:,}", f"{entry.macs:,}", accuracy, *figures)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join((*head, *rows))


FIGURES = ("validation accuracy, last epoch", "test accuracy")


def _told(found: dict[str, Any] | None) -> str:
    if not found:
        return "-"
    interval = found["interval_95"]
    within = f" ({100 * interval[0]:.1f}-{100 * interval[1]:.1f})" if interval else ""
    return f"{100 * found['mean']:.2f}{within}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["networks", "recipes"])
    parser.add_argument("--network", default="001-final")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--data-dir")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--train-images", type=int)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--out", default="build/published")
    given = parser.parse_args()
    lines = networks() if given.what == "networks" else recipes(given.network)
    print(table(lines, run(lines, given)))


if __name__ == "__main__":
    main()
