"""Writes the tables of docs/search.md and their plots from the results: every table between two marks anew.

    python -m benchmarks.simulated.document [--results benchmarks/results/search.json]
                                            [--ranking benchmarks/results/ranking.json] [--check]

The text around the marks is written by hand and holds no figure of its own.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.simulated import ranking
from benchmarks.simulated.plots import differences, lines

Document = dict[str, Any]
RESULTS = Path("benchmarks/results/search.json")
PAGE, IMAGES = Path("docs/search.md"), Path("docs/images/search")
NOT_RUN = "Not measured yet; `make bench-search` goes on with it."
CLEAR = 0.05  # of Holm's corrected p


def percent(found: dict[str, float] | None) -> str:
    """A mean with half its interval, which a single seed has not."""
    if not found:
        return "–"
    half = f" ± {100 * found['half']:.2f}" if found["count"] > 1 else ""
    return f"{100 * found['mean']:.2f}{half}"


def points(found: dict[str, float] | None) -> str:
    """A difference in points; bold where it is clear after Holm's correction."""
    if not found:
        return "–"
    text = f"{100 * found['mean']:+.2f} ± {100 * found['half']:.2f}"
    return f"**{text}**" if found.get("p", 1.0) < CLEAR else text


def table(stage: Document) -> str:
    """One line for each strategy, in the order in which they were declared."""
    share = round(100 * stage["equal_cost"])
    head = [
        "Strategy",
        f"after {stage['trials']} trials, %",
        f"against {stage['baseline']}",
        f"at {share}% of the training, %",
        f"against {stage['baseline']}",
        "training spent",
        "asks",
        "repeats",
        "over",
        "stopped",
        "seeds",
    ]
    body = [
        [
            name,
            percent(arm["at_trials"]),
            points(arm.get("versus_at_trials")) if name != stage["baseline"] else "",
            percent(arm["at_cost"]),
            points(arm.get("versus_at_cost")) if name != stage["baseline"] else "",
            f"{100 * arm['cost']:.0f}%",
            f"{arm['asks']:.0f}",
            f"{arm['repeated']:.0f}",
            f"{arm['over']:.0f}",
            f"{100 * (arm['pruned'] - arm['promoted']) / arm['trials']:.0f}%"
            if arm["pruned"] > arm["promoted"]
            else "0%",
            f"{arm['seeds']}",
        ]
        for name, arm in stage["arms"].items()
    ]
    aligned = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, aligned, *body])


def world(stage: Document) -> str:
    """What a world of real curves is made of, and how well the trees tell it."""
    facts = stage["facts"]
    rows = [
        ("networks trained", f"{facts['networks']}, {facts['repeated']} of them from more than one seed"),
        ("truth, lowest / median / highest", " / ".join(f"{100 * v:.1f}%" for v in facts["truth"].values())),
        ("the same network from another seed: standard deviation", f"{facts['luck_points']:.2f} points"),
        ("Kendall's tau of each epoch's accuracy and truth", _list(facts["kendall_by_epoch"])),
        ("Kendall's tau of parameters, of multiply-accumulates, and truth",
         _list([facts["kendall_parameters"], facts["kendall_macs"]])),
    ]  # fmt: skip
    for key, name in (("surrogate", "all"), ("surrogate_upper_half", "upper half")):
        if key in facts:
            quality = facts[key]
            text = f"{quality['r2']:.2f} / {quality['spearman']:.2f} / {quality['kendall']:.2f}"
            rows.append((f"surrogate out of the bag, {name}: R² / Spearman / Kendall", text))
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows)])


def _list(values: list[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


def conditions(document: Document) -> str:
    found = document["conditions"]
    packages = ", ".join(f"{name} {number}" for name, number in found["packages"].items())
    return f"Python {found['python']}, {packages}; {found['machine']}; {found['workers']} simulated workers."


def summary(document: Document) -> str:
    parts = [conditions(document)]
    for key, stage in document["stages"].items():
        parts += [f"\n{key}: {stage['world']}, {stage['epochs']} epochs, {stage['budget']}\n", table(stage)]
    return "\n".join(parts)


def blocks(document: Document, ranked: Document) -> dict[str, Callable[[], str]]:
    """What may stand between marks, by name."""
    found: dict[str, Callable[[], str]] = {"conditions": lambda: conditions(document)}
    for key, stage in document["stages"].items():
        found[f"table {key}"] = lambda stage=stage: table(stage)  # type: ignore[misc]
        if stage["facts"]:
            found[f"world {key}"] = lambda stage=stage: world(stage)  # type: ignore[misc]
    for key, one in ranked.get("tables", {}).items():
        found[f"chosen {key}"] = partial(ranking.choices, one["chosen"])
        for group in ("all", "best half"):
            found[f"ranking {key}, {group}"] = partial(ranking.rendered, one[group], ranked["shares"])
    return found


def rendered(page: str, document: Document, ranked: Document) -> str:
    """The page with everything between `<!-- NAME -->` and `<!-- end -->` written anew."""
    known = blocks(document, ranked)

    def written(match: re.Match[str]) -> str:
        name = match.group(1)
        text = known[name]() if name in known else NOT_RUN
        return f"<!-- {name} -->\n{text}\n<!-- end -->"

    return re.sub(r"<!-- ([a-z0-9, -]+) -->\n.*?<!-- end -->", written, page, flags=re.DOTALL)


def images(document: Document) -> dict[str, str]:
    """SVG by file name: differences from the baseline, and the best so far by trials and by cost."""
    found = {}
    for key, stage in document["stages"].items():
        name = key.replace(", ", "-").replace(" ", "-")
        found[f"{name}-differences.svg"] = differences(stage)
        found[f"{name}-curves.svg"] = lines(stage)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--ranking", type=Path, default=ranking.RESULTS)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the page is stale")
    arguments = parser.parse_args()
    document = json.loads(arguments.results.read_text(encoding="utf-8"))
    ranked = json.loads(arguments.ranking.read_text(encoding="utf-8"))
    page = PAGE.read_text(encoding="utf-8")
    anew = rendered(page, document, ranked)
    if arguments.check:
        sys.exit(None if anew == page else f"{PAGE} is stale: run {__spec__.name}")
    PAGE.write_text(anew, encoding="utf-8")
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name, text in images(document).items():
        (IMAGES / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
